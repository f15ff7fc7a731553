package fs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

var (
	clock    = time.Unix(1700000000, 0)
	id       = uuid.MustParse("6b1f2a4c-0d3e-4f5a-8b7c-9d0e1f2a3b4c")
	hashSeed = uuid.MustParse("11111111-2222-4333-8444-555555555555")
)

// host runs the programs of a root directory: the machine's own, or those of
// another release.
type host struct {
	root  string // "" is the machine's
	extra []string
	umask int
}

func (h host) Run(ctx context.Context, cmd Command) error {
	dir, err := filepath.Rel("/"+h.root, cmd.Dir)
	if err != nil {
		return err
	}
	argv := []string{"sh", "-c", `umask "$1"; cd "$2" || exit 1; shift 2; exec "$@"`, "sh", fmt.Sprintf("%03o", h.umask), "/" + dir}
	if h.root != "" {
		argv = append([]string{"chroot", h.root}, argv...)
		if strings.HasPrefix(dir, "..") {
			argv[len(argv)-1] = "/"
		}
	}
	argv = append(argv, cmd.Argv...)
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = append(append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, cmd.Env...), h.extra...)
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	return c.Run()
}

// rooted is a host that can also extract trees, as root.
type rooted struct{ host }

func (h rooted) RunOnTree(ctx context.Context, tree Tree, cmd Command) error {
	dir, err := os.MkdirTemp("", "tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var b bytes.Buffer
	if err := tree.WriteTar(ctx, &b); err != nil {
		return err
	}
	untar := exec.CommandContext(ctx, "tar", "-C", dir, "--delay-directory-restore", "-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f", "-")
	untar.Stdin = &b
	if out, err := untar.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	cmd.Argv = slices.Clone(cmd.Argv)
	for i, a := range cmd.Argv {
		cmd.Argv[i] = strings.ReplaceAll(a, "{tree}", dir)
	}
	return h.Run(ctx, cmd)
}

// need skips the test where programs are missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if !exists(p) {
			t.Skipf("SKIPPED: the program %s is not installed on this machine", p)
		}
	}
}

func exists(program string) bool {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}

// tools returns the machine's programs, and those of the release that
// APPLBUILD_TEST_TOOLS names a root directory of.
func tools(t *testing.T) map[string]host {
	t.Helper()
	all := map[string]host{"machine": {}}
	if root := os.Getenv("APPLBUILD_TEST_TOOLS"); root == "" {
		t.Log("APPLBUILD_TEST_TOOLS names no root directory of another release: only this machine's programs are tried")
	} else {
		all["other"] = host{root: root}
	}
	return all
}

// scratch is a folder that the programs of h see.
func scratch(t *testing.T, h host) string {
	t.Helper()
	if h.root == "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(filepath.Join(h.root, "tmp"), "fs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// memory is a tree in memory.
type memory []member

type member struct {
	tar.Header
	data []byte
}

func (m memory) WriteTar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, e := range m {
		h := e.Header
		h.Size = int64(len(e.data))
		h.Format = tar.FormatPAX
		if h.ModTime.IsZero() {
			h.ModTime = clock.Add(-time.Hour)
		}
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := tw.Write(e.data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// capNetRaw is the value of security.capability for cap_net_raw=ep.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func noise(n int) []byte {
	b := make([]byte, 0, n+32)
	for sum := sha256.Sum256([]byte("noise")); len(b) < n; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// zoo is a tree with one of everything.
func zoo() memory {
	long := strings.Repeat("n", 254) // mkfs.erofs 1.5 cannot have 255
	deep := "deep"
	m := memory{
		{Header: tar.Header{Name: "bin", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "bin/su", Typeflag: tar.TypeReg, Mode: 0o4755}, data: noise(70000)},
		{Header: tar.Header{Name: "bin/ping", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": capNetRaw, "SCHILY.xattr.user.note": "a b"}}, data: []byte("ping")},
		{Header: tar.Header{Name: "bin/wall", Typeflag: tar.TypeReg, Mode: 0o2755, Gid: 5}, data: []byte("wall\n")},
		{Header: tar.Header{Name: "bin/sudo", Typeflag: tar.TypeLink, Linkname: "bin/su"}},
		{Header: tar.Header{Name: "deep", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "dev", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Name: "dev/vda", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 254, Devminor: 300}},
		{Header: tar.Header{Name: "empty", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 1000, Gid: 1001}},
		{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o640}},
		{Header: tar.Header{Name: "here", Typeflag: tar.TypeSymlink, Linkname: "bin/su", Mode: 0o777}},
		{Header: tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "../" + strings.Repeat("x/", 100), Mode: 0o777}},
		{Header: tar.Header{Name: long, Typeflag: tar.TypeReg, Mode: 0o644, Uid: 300000, Gid: 70000}, data: []byte("long")},
		{Header: tar.Header{Name: "odd", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 42, Gid: 43, ModTime: time.Unix(1234567890, 0)}},
		{Header: tar.Header{Name: "odd/-f", Typeflag: tar.TypeReg, Mode: 0o644}, data: []byte("dash")},
		{Header: tar.Header{Name: "odd/<12>", Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, data: []byte("number")},
		{Header: tar.Header{Name: "odd/a \"quoted\" name", Typeflag: tar.TypeReg, Mode: 0o644}, data: []byte("quotes")},
		{Header: tar.Header{Name: "odd/back\\slash $HOME `id`", Typeflag: tar.TypeReg, Mode: 0o644}, data: []byte("shell")},
		{Header: tar.Header{Name: "odd/größe", Typeflag: tar.TypeReg, Mode: 0o644}, data: []byte("utf-8")},
		{Header: tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o644}, data: append(make([]byte, 3<<20), "end"...)},
	}
	for range 40 {
		deep += "/d"
		m = append(m, member{Header: tar.Header{Name: deep, Typeflag: tar.TypeDir, Mode: 0o755}})
	}
	m = append(m, member{Header: tar.Header{Name: deep + "/leaf", Typeflag: tar.TypeReg, Mode: 0o644}, data: noise(5000)},
		member{Header: tar.Header{Name: "many", Typeflag: tar.TypeDir, Mode: 0o700}})
	for i := range 400 {
		m = append(m, member{Header: tar.Header{Name: fmt.Sprintf("many/file-with-a-longer-name-%04d", i), Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1600000000+int64(i), 0)}, data: noise(i)})
	}
	return m
}

// summary is what a tree should look like: path → one line with all there is
// to compare.
func (m memory) summary() map[string]string {
	s := map[string]string{}
	byName := map[string]member{}
	for _, e := range m {
		byName[e.Name] = e
		name := e.Name
		if e.Typeflag == tar.TypeLink {
			e = byName[e.Linkname]
		}
		at := e.ModTime
		if at.IsZero() {
			at = clock.Add(-time.Hour)
		}
		line := fmt.Sprintf("%c %04o %d:%d %d", e.Typeflag, e.Mode, e.Uid, e.Gid, at.Unix())
		switch e.Typeflag {
		case tar.TypeReg:
			sum := sha256.Sum256(e.data)
			line += " " + hex.EncodeToString(sum[:8])
		case tar.TypeSymlink:
			line += " -> " + e.Linkname
		case tar.TypeChar, tar.TypeBlock:
			line += fmt.Sprintf(" %d,%d", e.Devmajor, e.Devminor)
		}
		for _, k := range slices.Sorted(maps.Keys(e.PAXRecords)) {
			line += fmt.Sprintf(" %s=%x", strings.TrimPrefix(k, xattrRecord), e.PAXRecords[k])
		}
		s[name] = line
	}
	return s
}

// summarize reads a directory into what memory.summary gives.
func summarize(t *testing.T, root string) map[string]string {
	t.Helper()
	s := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rest, flag := "", byte(tar.TypeReg)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			rest = " " + hex.EncodeToString(sum[:8])
		case syscall.S_IFDIR:
			flag = tar.TypeDir
		case syscall.S_IFLNK:
			flag = tar.TypeSymlink
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			rest = " -> " + to
		case syscall.S_IFIFO:
			flag = tar.TypeFifo
		default:
			flag = tar.TypeChar
			if st.Mode&syscall.S_IFMT == syscall.S_IFBLK {
				flag = tar.TypeBlock
			}
			rest = fmt.Sprintf(" %d,%d", st.Rdev>>8&0xfff, st.Rdev&0xff|st.Rdev>>12&0xfff00)
		}
		s[name] = fmt.Sprintf("%c %04o %d:%d %d", flag, st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Sec) + rest + xattrs(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func xattrs(t *testing.T, path string) (s string) {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatalf("list extended attributes of %s: %v", path, err)
	}
	names := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	for _, name := range names {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatalf("read %s of %s: %v", name, path, err)
		}
		s += fmt.Sprintf(" %s=%x", name, value[:n])
	}
	return s
}

// compare reports what differs between two summaries.
func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s:\n  got  %s\n  want %s", name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there: %s", name, got[name])
		}
	}
}

// mount mounts an image read-only and returns where.
func mount(t *testing.T, kind, image string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: mounting an image needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop,ro", image, dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine cannot mount %s: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// digest returns a file's SHA-256.
func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// output runs a program of the machine, which must succeed.
func output(t *testing.T, argv ...string) string {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}
