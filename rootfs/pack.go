package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/applbuild/applbuild/rootfs/tree"
)

type packArgs struct{ Clock time.Time }

// wanted are what unwanted would take though packages' scripts make it once
// and for all.
func wanted(name string) bool { return name == "run/lock" }

// unwanted are the files that differ from one build to the next, or that a
// machine must make for itself: patterns of path.Match in the tree. The
// folders stay.
func unwanted() []string {
	return []string{
		// Made by the kernel or the running system.
		"dev/*", "proc/*", "run/*", "sys/*", "tmp/*", "var/tmp/*",
		// Identities of a machine.
		"etc/machine-id", "etc/ssh/ssh_host_*", "etc/hostname", "etc/resolv.conf",
		"var/lib/dbus/machine-id", "var/lib/systemd/credential.secret", "var/lib/systemd/random-seed",
		// Copies of what was there before a script changed it.
		"etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
		"etc/.pwd.lock", "var/backups/*",
		"var/lib/dpkg/*-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/triggers/Lock",
		"var/cache/debconf/*-old",
		// Logs and caches with times or inode numbers in them.
		"var/log/alternatives.log", "var/log/apt/*", "var/log/bootstrap.log", "var/log/dpkg.log", "var/log/fontconfig.log",
		"var/cache/ldconfig/aux-cache", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
		"var/lib/apt/lists/*_*",
		"root/.rnd",
	}
}

// packInside runs in a sandbox that sees the finished tree at /tree and writes
// it to its first file.
func packInside(ctx context.Context, raw []byte, files []*os.File) error {
	var args packArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return err
	}
	root, err := os.OpenRoot("/tree")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := removeUnwanted(root); err != nil {
		return err
	}
	if err := dateAccounts(root, args.Clock); err != nil {
		return err
	}
	return tree.FromDir(ctx, "/tree", files[0], args.Clock)
}

func removeUnwanted(root *os.Root) error {
	for _, pattern := range unwanted() {
		matches, err := fs.Glob(root.FS(), pattern)
		if err != nil {
			return fmt.Errorf("%s: %w", pattern, err)
		}
		for _, name := range matches {
			if wanted(name) {
				continue
			}
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// dateAccounts gives the dates of password changes in etc/shadow the clock's
// day: useradd and systemd-sysusers write today's.
func dateAccounts(root *os.Root, clock time.Time) error {
	const name = "etc/shadow"
	data, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	const lastChange = 2 // the field's number, shadow(5)
	day := strconv.FormatInt(clock.Unix()/int64(24*time.Hour/time.Second), 10)
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		fields := bytes.Split(line, []byte(":"))
		if len(fields) > lastChange && len(fields[lastChange]) > 0 && string(fields[lastChange]) != "0" {
			fields[lastChange] = []byte(day)
		}
		out.Write(bytes.Join(fields, []byte(":")))
	}
	if bytes.Equal(out.Bytes(), data) {
		return nil
	}
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(out.Bytes())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return root.Chtimes(path.Clean(name), info.ModTime(), info.ModTime())
}
