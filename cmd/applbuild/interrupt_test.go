package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// interrupt runs the command as a process group of its own and presses Ctrl-C
// some time after a stage began. ended says that the stage was over before.
func interrupt(t testing.TB, p *process, stage string, after time.Duration) (code int, ended bool) {
	t.Helper()
	if p.SysProcAttr == nil {
		p.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.SysProcAttr.Setpgid = true
	p.Stdout, p.Stderr = nil, nil
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	started := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		p.output.WriteString(lines.Text() + "\n")
		var event struct{ Event, Stage string }
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.Stage != stage {
			continue
		}
		switch event.Event {
		case "start":
			started = true
			time.AfterFunc(after, func() { syscall.Kill(-p.Process.Pid, syscall.SIGINT) })
		case "done":
			ended = !strings.Contains(lines.Text(), `"error"`)
		}
	}
	err = p.Wait()
	if !started {
		t.Fatalf("stage %s never began (%v):\n%s", stage, err, p.output.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.ProcessState.ExitCode(), ended
}

// interrupted checks what is left of a command that was ended by Ctrl-C.
func interrupted(t testing.TB, p *process, code int, store, out string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(p.output.String()), "\n")
	said := lines[len(lines)-1]
	if code != exitInterrupted || !strings.HasPrefix(said, "applbuild: interrupted") {
		t.Errorf("exit code %d, want %d\n%s", code, exitInterrupted, p.output.String())
	}
	if slices.ContainsFunc(lines[:len(lines)-1], func(l string) bool { return !strings.HasPrefix(l, "{") }) {
		t.Errorf("more is said than that:\n%s", p.output.String())
	}
	nothingLeft(t, store, out)
}

// Ctrl-C while an archive is silent ends the command at once.
func TestInterruptTransfers(t *testing.T) {
	hello := deb(t, "Package: hello\nVersion: 1\n")
	for _, c := range []struct{ stage, file string }{{"index", "InRelease"}, {"index", "Packages*"}, {"fetch", "hello_1_all.deb"}} {
		t.Run(c.file, func(t *testing.T) {
			d := newTiny(t, "packages: [hello]\n", hello)
			d.ByHash = false
			d.Publish()
			d.Fail(c.file, archivetest.Silent, -1)
			p := program(t, "image", d.recipe, "--store", d.store, "-o", d.out, "--log-format", "json")
			begin := time.Now()
			code, _ := interrupt(t, p, c.stage, 200*time.Millisecond)
			interrupted(t, p, code, d.store, d.out)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("the command took %s", took)
			}
			d.Heal()
			applbuild(t, "fetch", d.recipe, "--store", d.store).succeeds(t)
		})
	}
}

// Ctrl-C at any stage leaves nothing, and the next build ends well. What an
// earlier stage made is kept, so that each build comes further.
func TestInterruptStages(t *testing.T) {
	d := newRealTiny(t, "packages: [dpkg, dash, slow]\n",
		deb(t, "Package: slow\nVersion: 1\nDepends: dash\n", archivetest.Script{Name: "postinst", Body: "#!/bin/sh\nsleep 5 & sleep 3\n"}))
	for _, c := range []struct {
		stage string
		after time.Duration
	}{
		{"tools", 0}, {"tools", 50 * time.Millisecond}, {"base", 0}, {"base", 300 * time.Millisecond}, {"base", time.Second},
		{"base", 2 * time.Second}, {"root", 50 * time.Millisecond}, {"root", 400 * time.Millisecond},
	} {
		t.Run(c.stage+" "+c.after.String(), func(t *testing.T) {
			p := program(t, "image", d.recipe, "--store", d.store, "-o", d.out, "--log-format", "json", "--set", "root.compression=xz")
			code, ended := interrupt(t, p, c.stage, c.after)
			if ended {
				t.Errorf("%s was over before %s", c.stage, c.after)
			}
			interrupted(t, p, code, d.store, d.out)
		})
	}
	d.image(t).succeeds(t)
}

// An ordinary user's trees belong to ids that he isn't: they are gone, too.
func TestInterruptOrdinaryUser(t *testing.T) {
	d := newRealTiny(t, "packages: [dpkg, dash, slow]\n",
		deb(t, "Package: slow\nVersion: 1\nDepends: dash\n", archivetest.Script{Name: "postinst", Body: "#!/bin/sh\nsleep 5\n"}))
	for _, after := range []time.Duration{300 * time.Millisecond, 3 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			p := program(t)
			p.asOrdinaryUser(t)
			copyDir(t, d.dir, p.Dir)
			give(t, p.Dir, p)
			store, out := filepath.Join(p.Dir, "store"), filepath.Join(p.Dir, "out")
			p.Args = append(p.Args, "image", filepath.Join(p.Dir, "tiny.yml"), "--store", store, "-o", out, "--log-format", "json")
			code, ended := interrupt(t, p, "base", after)
			if ended {
				t.Errorf("base was over before %s", after)
			}
			interrupted(t, p, code, store, out)
		})
	}
}

// The stages of a disk that boots.
func TestInterruptBootStages(t *testing.T) {
	d := built.disk(t)
	for _, c := range []struct {
		stage, set string
		after      time.Duration
	}{
		{"initrd", "kernel.modules=[ahci]", time.Second},
		{"uki", "boot.cmdline+=first", 0},
		{"disk", "boot.cmdline+=second", 0},
		{"disk", "boot.cmdline+=third", 100 * time.Millisecond},
	} {
		t.Run(c.stage+" "+c.after.String(), func(t *testing.T) {
			out := t.TempDir()
			p := program(t, "image", d.recipe, "--store", d.store, "-o", out, "--set", c.set, "--log-format", "json")
			code, _ := interrupt(t, p, c.stage, c.after)
			if code == exitOK && c.stage == "disk" {
				t.Skip("the disk was written before Ctrl-C came")
			}
			interrupted(t, p, code, d.store, out)
		})
	}
}

// Ctrl-C ends a guest, and its emulator with it, at once where nothing of it is
// kept.
func TestInterruptBoot(t *testing.T) {
	d := built.disk(t)
	p := program(t, "boot", d.file(".raw"), "--store", d.store, "--kvm", "off", "--log-format", "json", "--report", filepath.Join(t.TempDir(), "report"))
	applbuild(t, "boot", d.file(".raw"), "--store", d.store, "--kvm", "off", "--timeout", "1s") // QEMU is there now
	begin := time.Now()
	code, _ := interrupt(t, p, "qemu", 3*time.Second)
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the guest went on for %s", took)
	}
	interrupted(t, p, code, d.store, t.TempDir())
}
