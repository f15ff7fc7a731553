// Command guest is the first process of the test's guest: it reports over the
// virtio-serial port and then ends the way the kernel's command line says.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// unused is a place on the disk behind its only partition, in bytes.
const unused = 65<<20 + 8192

func main() {
	for _, m := range []struct{ fs, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		os.MkdirAll(m.at, 0o755)
		if err := syscall.Mount(m.fs, m.at, m.fs, 0, ""); err != nil {
			fmt.Println("mount", m.fs, err)
		}
	}
	cmdline, _ := os.ReadFile("/proc/cmdline")
	mode := ""
	for _, word := range strings.Fields(string(cmdline)) {
		if v, ok := strings.CutPrefix(word, "test.mode="); ok {
			mode = v
		}
	}
	fmt.Println("guest: mode", mode)
	if mode == "serve" {
		serve()
		return
	}
	for _, m := range []string{"/pvpanic.ko.xz", "/pvpanic-mmio.ko.xz"} {
		if mode == "pvpanic" {
			fmt.Println("guest: module", m, load(m))
		}
	}
	if disk, err := os.OpenFile("/dev/nvme0n1", os.O_WRONLY|syscall.O_SYNC, 0); err == nil {
		_, err = disk.WriteAt(make([]byte, 4096), unused)
		fmt.Println("guest: wrote", err)
		disk.Close()
	}
	report(mode, string(cmdline))
	switch mode {
	case "poweroff":
		syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	case "reset":
		syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	case "panic", "pvpanic":
		os.Exit(3)
	}
	for {
		time.Sleep(time.Hour)
	}
}

func report(mode, cmdline string) {
	port, err := openPort("applbuild.report", os.O_WRONLY)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	defer port.Close()
	fmt.Fprintf(port, "mode=%s\n", mode)
	fmt.Fprintf(port, "cmdline=%s\n", strings.TrimSpace(cmdline))
	entries, _ := filepath.Glob("/sys/firmware/dmi/entries/11-*/raw")
	for _, e := range entries {
		b, _ := os.ReadFile(e)
		for _, s := range strings.Split(string(b[min(5, len(b)):]), "\x00") {
			if s != "" {
				fmt.Fprintf(port, "smbios=%s\n", s)
			}
		}
	}
	disks, _ := filepath.Glob("/sys/block/*")
	for _, d := range disks {
		fmt.Fprintf(port, "disk=%s\n", filepath.Base(d))
	}
	nets, _ := filepath.Glob("/sys/class/net/*")
	for _, n := range nets {
		fmt.Fprintf(port, "net=%s\n", filepath.Base(n))
	}
	if mode == "poweroff" {
		fmt.Fprintf(port, "long=%s\n", strings.Repeat("x", 100_000))
	}
	fmt.Fprintln(port, "done")
}
