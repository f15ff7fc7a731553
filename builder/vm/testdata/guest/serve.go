package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const block = 4096

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", unix.MODULE_INIT_COMPRESSED_FILE)
}

// openPort opens a virtio-serial port by its name; udev isn't here to link it.
func openPort(name string, flags int) (*os.File, error) {
	for range 100 {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if b, _ := os.ReadFile(n); strings.TrimSpace(string(b)) == name {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), flags, 0)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.New("no port " + name)
}

// serve carries out what the host asks for, a line each, and answers each with a
// line.
func serve() {
	for _, m := range []string{"virtio_blk", "failover", "net_failover", "virtio_net", "evdev", "button"} {
		fmt.Println("guest: module", m, load("/"+m+".ko.xz"))
	}
	port, err := openPort("test.ask", os.O_RDWR)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	second, err := openPort("test.echo", os.O_RDWR)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	fmt.Fprintln(port, "ready")
	go io.Copy(second, second)
	go powerButton()
	for lines := bufio.NewScanner(port); lines.Scan(); {
		words := strings.Fields(lines.Text())
		answer, err := carryOut(words[0], words[1:])
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Fprintf(port, "%s\n", answer)
	}
}

func carryOut(verb string, args []string) (string, error) {
	switch verb {
	case "disks":
		return disks()
	case "write": // DISK OFFSET WORD flush|hold
		return "written", write(args[0], args[1], args[2], args[3] == "flush")
	case "read": // DISK OFFSET
		return read(args[0], args[1])
	case "boots":
		return tpmResets()
	case "link":
		b, err := os.ReadFile("/sys/class/net/eth0/carrier")
		return strings.TrimSpace(string(b)), err
	case "listen":
		return "listening", listen()
	case "say":
		fmt.Println(strings.Join(args, " "))
		return "said", nil
	}
	return "", errors.New("unknown " + verb)
}

// disks lists name=bytes.
func disks() (string, error) {
	names, err := filepath.Glob("/sys/block/*/size")
	var all []string
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			return "", err
		}
		sectors, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("%s=%d", filepath.Base(filepath.Dir(n)), 512*sectors))
	}
	return strings.Join(all, " "), err
}

// write writes a block past the guest's cache and has the disk flush it if asked
// to.
func write(disk, at, word string, flush bool) error {
	offset, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return err
	}
	f, err := os.OpenFile("/dev/"+disk, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	b := aligned()
	copy(b, word+"\n")
	if _, err := f.WriteAt(b, offset); err != nil {
		return err
	}
	if !flush {
		// Closing a block device's last file flushes it.
		held = append(held, f)
		return nil
	}
	return errors.Join(f.Sync(), f.Close())
}

// held are files that are never closed.
var held []*os.File

func read(disk, at string) (string, error) {
	offset, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile("/dev/"+disk, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := aligned()
	if _, err := f.ReadAt(b, offset); err != nil {
		return "", err
	}
	word, _, _ := strings.Cut(string(b), "\n")
	return strings.Trim(word, "\x00"), nil
}

// aligned returns a block as O_DIRECT wants it.
func aligned() []byte {
	b := make([]byte, 2*block)
	off := block - int(uintptr(unsafe.Pointer(&b[0]))%block)
	return b[off : off+block]
}

// tpmResets asks the TPM how often it was started (TPM2_ReadClock in the Trusted
// Platform Module Library, part 3): it counts for as long as it keeps its memory.
func tpmResets() (string, error) {
	// An *os.File would not block: its Read comes before the answer does.
	fd, err := syscall.Open("/dev/tpm0", syscall.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	if _, err := syscall.Write(fd, []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x81}); err != nil {
		return "", err
	}
	b := make([]byte, 4096)
	n, err := syscall.Read(fd, b)
	if err != nil || n < 30 {
		return "", fmt.Errorf("answer of %d bytes: %w", n, err)
	}
	return strconv.Itoa(int(binary.BigEndian.Uint32(b[26:]))), nil
}

// listen sets eth0 up with the address that QEMU forwards to, and greets each who
// comes to port 80.
func listen() error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	for _, r := range []struct {
		request uintptr
		value   []byte
	}{
		{syscall.SIOCSIFADDR, []byte{syscall.AF_INET, 0, 0, 0, 10, 0, 2, 15}},
		{syscall.SIOCSIFNETMASK, []byte{syscall.AF_INET, 0, 0, 0, 255, 255, 255, 0}},
		{syscall.SIOCSIFFLAGS, []byte{syscall.IFF_UP, 0}},
	} {
		var request [40]byte // struct ifreq
		copy(request[:], "eth0")
		copy(request[syscall.IFNAMSIZ:], r.value)
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), r.request, uintptr(unsafe.Pointer(&request[0]))); e != 0 {
			return fmt.Errorf("eth0: %w", e)
		}
	}
	l, err := net.Listen("tcp4", ":80")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello\n")
			c.Close()
		}
	}()
	return nil
}

// powerButton powers off when the button is pressed.
func powerButton() {
	names, _ := filepath.Glob("/dev/input/event*")
	for _, name := range names {
		go func() {
			f, err := os.Open(name)
			if err != nil {
				return
			}
			const event, keyPower = 24, 116 // struct input_event; KEY_POWER
			for b := make([]byte, event); ; {
				if _, err := io.ReadFull(f, b); err != nil {
					return
				}
				if binary.LittleEndian.Uint16(b[16:]) == 1 && binary.LittleEndian.Uint16(b[18:]) == keyPower {
					syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
				}
			}
		}()
	}
}
