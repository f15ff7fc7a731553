// Package oracle finds, or makes once, the tree of Debian 13 whose tools the
// tests of images ask: systemd's ukify and systemd-measure, pesign and sbverify,
// QEMU with its firmware, a kernel. It is for tests only.
package oracle

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/distro"
)

// Variable names the environment variable with the folder of a tree to use as it
// is. Without it the tree is in the user's cache folder.
const Variable = "APPLBUILD_TRIXIE_TREE"

// packages are what the tree is made of, with what they depend on. Nothing of
// them is configured.
func packages() []string {
	return []string{
		"base-files", "coreutils", "dash", "linux-image-cloud-amd64", "ovmf", "pesign", "python3-pefile",
		"qemu-system-x86", "qemu-utils", "sbsigntool", "swtpm", "systemd", "systemd-boot-efi", "systemd-ukify",
	}
}

// wanted are the files without which a tree is not whole, or older than the list
// of packages.
func wanted() []string {
	return []string{
		"usr/bin/pesign", "usr/bin/qemu-img", "usr/bin/qemu-system-x86_64", "usr/bin/sbverify", "usr/bin/swtpm",
		"usr/bin/ukify",
		"usr/lib/systemd/boot/efi/linuxx64.efi.stub", "usr/lib/systemd/systemd-measure",
		"usr/share/OVMF/OVMF_CODE_4M.fd",
	}
}

// A Tree is the root folder of a tree.
type Tree struct{ Root string }

// Find returns the tree, or skips the test: it needs root, mmdebstrap and an
// archive of Debian's the first time.
func Find(t testing.TB) Tree {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: the tools of Debian 13 are asked in long tests only")
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, which the tree of Debian 13 is entered as")
	}
	if root := os.Getenv(Variable); root != "" {
		return Tree{root}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("SKIPPED: a cache folder is missing: %v", err)
	}
	root := filepath.Join(cache, "applbuild-test", "trixie-oracle")
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	// Packages are tested side by side.
	lock, err := os.OpenFile(root+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if !whole(root) {
		makeTree(t, root)
	}
	return Tree{root}
}

func whole(root string) bool {
	for _, name := range wanted() {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			return false
		}
	}
	return true
}

func makeTree(t testing.TB, root string) {
	t.Helper()
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("SKIPPED: mmdebstrap is missing, which makes the tree of Debian 13")
	}
	release, err := distro.Lookup("debian", "trixie")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := release.Sources(distro.SourceOptions{Arch: "amd64", HostApt: os.DirFS("/etc/apt")})
	if err != nil {
		t.Fatal(err)
	}
	part := root + ".part"
	for _, old := range []string{part, root} {
		if err := os.RemoveAll(old); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--mode=root", "--variant=extract", "--quiet",
		"--aptopt=APT::Install-Recommends false", "--include="+strings.Join(packages(), ","),
		"trixie", part, sources[0].URI)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: the tree of Debian 13 is missing, mmdebstrap could not make it (%v): %s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(part, root); err != nil {
		t.Fatal(err)
	}
}

// Path returns the host's path of a file of the tree.
func (tree Tree) Path(name string) string { return filepath.Join(tree.Root, name) }

// Kernel returns the host's path of the tree's kernel.
func (tree Tree) Kernel(t testing.TB) string {
	t.Helper()
	names, err := filepath.Glob(tree.Path("boot/vmlinuz-*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("kernels in %s: %v, want one", tree.Root, names)
	}
	return names[0]
}

// TempDir makes a folder in the tree, at the same place for the host and for the
// tree's programs but for the root. It is gone after the test.
func (tree Tree) TempDir(t testing.TB) (host, inside string) {
	t.Helper()
	host, err := os.MkdirTemp(tree.Path("tmp"), "oracle-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(host) })
	return host, "/" + strings.TrimPrefix(strings.TrimPrefix(host, tree.Root), "/")
}

// Run runs a program of the tree, named by its whole path there, and returns its
// standard output.
func (tree Tree) Run(t testing.TB, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: tree.Root}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, stderr.Bytes())
	}
	return stdout.String()
}
