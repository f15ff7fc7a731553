package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestInject(t *testing.T) {
	tree := newTree(t)
	absent := filepath.Join(tree.Root, "etc/absent")
	tree.Inject = []File{
		{Path: "/etc/there", Content: []byte("injected\n")},
		{Path: "/etc/absent", Content: []byte("#!/bin/sh\necho ran\nexit 101\n"), Mode: 0o755},
	}
	gone := func(when string) {
		t.Helper()
		if _, err := os.Lstat(absent); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s the injected file is in the tree: %v", when, err)
		}
		if b, err := os.ReadFile(filepath.Join(tree.Root, "etc/there")); err != nil || string(b) != "the tree's\n" {
			t.Errorf("%s the tree's file is %q, %v", when, b, err)
		}
	}
	got := output(t, tree.sh("cat /etc/there; /etc/absent; echo $?; stat -c '%u %a' /etc/absent /etc/there; rm -f /etc/absent /etc/there 2>/dev/null; echo over > /etc/there; cat /etc/there"))
	if got != "injected\nran\n101\n0 755\n0 644\nover" {
		t.Errorf("%q", got)
	}
	gone("after a run")
	var exit *ExitError
	if err := Run(t.Context(), tree.sh("exit 7")); !errors.As(err, &exit) || exit.Code != 7 {
		t.Error(err)
	}
	gone("after a run that failed")
	broken := tree.sh("true")
	broken.Inject = append(broken.Inject, File{Path: "/no/dir/file"})
	if err := Run(t.Context(), broken); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	gone("after a run that did not start")
	moved := tree.sh("mv /etc /etc.moved && mv /etc.moved /opt/etc; ls /opt/etc/absent")
	if got := output(t, moved); got != "/opt/etc/absent" {
		t.Errorf("%q", got)
	}
	if _, err := os.Lstat(filepath.Join(tree.Root, "opt/etc/absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the injected file is where its directory was moved: %v", err)
	}
	plain := tree
	plain.Inject = nil
	output(t, plain.sh("mv /opt/etc /etc"))

	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := Run(ctx, tree.sh("sleep 60")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if d := time.Since(start); d > 1150*time.Millisecond {
		t.Errorf("the end took %v", d)
	}
	gone("after a run that was stopped")

	cmd := victimCommand(t, "inject "+tree.Root)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := func() bool { _, err := os.Lstat(filepath.Join(tree.Root, "opt/started")); return err == nil }
	if !eventually(started) {
		t.Error("the sandbox did not start")
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(func() bool { _, err := os.Lstat(absent); return err != nil })
	gone("after the caller was killed")

	// What a power failure leaves.
	output(t, plain.sh(": > /etc/absent; chmod 0 /etc/absent; touch -d @1 /etc/absent"))
	output(t, tree.sh("true"))
	gone("after a run that found a placeholder")

	for name, want := range map[string]error{"/etc": unix.EISDIR, "/etc/dangling": unix.ENOENT} {
		s := tree.sh("true")
		s.Inject = []File{{Path: name}}
		if err := Run(t.Context(), s); !errors.Is(err, want) {
			t.Errorf("inject %s: %v, want %v", name, err, want)
		}
	}
	ro := tree.sh("cat /etc/there")
	ro.ReadOnlyRoot = true
	if err := Run(t.Context(), ro); !errors.Is(err, unix.EROFS) {
		t.Errorf("missing file in a read-only tree: %v", err)
	}
	ro.Inject = ro.Inject[:1]
	if got := output(t, ro); got != "injected" {
		t.Errorf("file of a read-only tree: %q", got)
	}
	if got := output(t, Spec{IDs: Range, Binds: usr(Range).Binds, Links: usr(Range).Links, Argv: []string{"cat", "/conf"}, Inject: []File{{Path: "/conf", Content: []byte("in a skeleton")}}}); got != "in a skeleton" {
		t.Errorf("%q", got)
	}
}

func TestMakeOwnedAndRemoveAll(t *testing.T) {
	tree := newTree(t)
	if err := MakeOwned(t.Context(), tree.Root); !errors.Is(err, os.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if err := MakeOwned(t.Context(), filepath.Join(tree.Root, "no/such")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made in nothing: %v", err)
	}
	output(t, tree.sh("mkdir -p /opt/closed/deeper; touch /opt/closed/deeper/f; chown -R 7:7 /opt/closed; chmod 0 /opt/closed/deeper /opt/closed; ln -s / /opt/root"))
	if err := RemoveAll(t.Context(), tree.Root); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(tree.Root); !errors.Is(err, os.ErrNotExist) {
		t.Error("still there:", err)
	}
	if err := RemoveAll(t.Context(), tree.Root); err != nil {
		t.Error("removed twice:", err)
	}
}
