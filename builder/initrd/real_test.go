package initrd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/initrd"
	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/overlay"
	"github.com/applbuild/applbuild/rootfs/resolve"
	"github.com/klauspost/compress/zstd"
)

// budget is what an initrd may take of the ESP, in bytes.
const budget = 16 << 20

// TestInitrdOfRealPackages fetches a release's packages and builds its initrd
// twice, all file systems of the root among them.
func TestInitrdOfRealPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("packages of Debian's archive are fetched: left out of the short tests")
	}
	for release, roots := range map[string][]string{
		"bookworm": {"squashfs"}, "trixie": {"squashfs", "erofs", "ext4"}, "sid": {"btrfs"},
	} {
		t.Run(release, func(t *testing.T) {
			p := realPackages(t, release)
			for _, root := range roots {
				p.RootFilesystem = root
				var first, second bytes.Buffer
				start := time.Now()
				s, err := initrd.Build(t.Context(), p, &first)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %d files, %d bytes of %d, %v, modules %v", root, s.Files, s.Compressed, s.Size, time.Since(start).Round(time.Millisecond), s.Modules)
				if s.Compressed > budget {
					t.Errorf("%s: %d bytes, %d are allowed", root, s.Compressed, budget)
				}
				if _, err := initrd.Build(t.Context(), p, &second); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(first.Bytes(), second.Bytes()) {
					t.Errorf("%s: the second initrd is another", root)
				}
				dir := extract(t, first.Bytes())
				checkContents(t, dir, s)
				checkModules(t, dir, p.KernelVersion, s.Modules)
				checkLibraries(t, dir)
			}
		})
	}
}

// realPackages resolves and fetches what a release's row asks for.
func realPackages(t *testing.T, name string) initrd.Params {
	t.Helper()
	release, err := distro.Lookup("debian", name)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := release.Sources(distro.SourceOptions{
		Arch: "amd64", HostApt: os.DirFS("/etc/apt"), HostKeyrings: os.DirFS("/usr/share/keyrings"),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := &archive.Client{Dir: t.TempDir(), Now: time.Now()}
	indexes, err := client.Update(t.Context(), sources)
	if err != nil {
		t.Fatal(err)
	}
	var all []*resolve.Package
	for i, index := range indexes {
		r, err := index.Open()
		if err != nil {
			t.Fatal(err)
		}
		list, err := resolve.ReadPackages(r, &resolve.Origin{URI: index.Source.URI, Suite: index.Source.Suite, Component: index.Component, Order: i})
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	chosen, err := resolve.NewUniverse("amd64", all).Resolve(resolve.Request{
		Names: append(release.InitrdPackages("amd64"), "base-files", "base-passwd", "linux-image-cloud-amd64"),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := initrd.Params{Architecture: "amd64", Verity: true, Partitions: []string{"ext4", "swap"}, Clock: time.Unix(1700000000, 0)}
	var items []archive.Item
	for _, pkg := range chosen {
		items = append(items, archive.Item{
			URL: strings.TrimSuffix(pkg.Origin.URI, "/") + "/" + pkg.Filename, Size: pkg.Size, SHA256: pkg.SHA256, Name: pkg.Name,
		})
	}
	if err := client.Fetch(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	for _, pkg := range chosen {
		f, err := os.Open(client.Path(pkg.SHA256))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		d, err := deb.Open(f, pkg.Size)
		if err != nil {
			t.Fatal(pkg.Name, err)
		}
		version, isKernel := strings.CutPrefix(pkg.Name, "linux-image-")
		if isKernel && version != "cloud-amd64" {
			p.KernelVersion = version
			p.Kernel = append(p.Kernel, initrd.Package{Name: pkg.Name, Files: d})
			continue
		}
		p.Packages = append(p.Packages, initrd.Package{Name: pkg.Name, Files: d})
	}
	for _, f := range overlay.Initrd(overlay.Options{Packages: []string{"podman"}}) {
		p.Files = append(p.Files, initrd.File(f))
	}
	return p
}

// extract lets cpio unpack an initrd.
func extract(t *testing.T, compressed []byte) string {
	t.Helper()
	tool, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("cpio is not installed: the initrd is not unpacked and looked at")
	}
	d, err := zstd.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	dir := t.TempDir()
	cmd := exec.Command(tool, "--extract", "--quiet", "--no-absolute-filenames", "--preserve-modification-time")
	cmd.Dir, cmd.Stdin = dir, d
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	return dir
}

func checkContents(t *testing.T, dir string, s *initrd.Summary) {
	t.Helper()
	for _, name := range []string{
		"init", "usr/bin/udevadm", "usr/sbin/modprobe", "usr/sbin/dmsetup", "usr/lib/systemd/systemd-veritysetup",
		"usr/lib/udev/rules.d/95-dm-notify.rules", "etc/passwd", "usr/lib/initrd-release", "usr/lib/applbuild/state",
	} {
		if !slices.Contains(s.Paths, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range s.Paths {
		for _, needless := range []string{"/doc/", "/man/", "libdb-", "sqlite", "bin/bash", "systemd-networkd", "hwdb"} {
			if strings.Contains(name, needless) {
				t.Errorf("%s is of no use", name)
			}
		}
	}
	group, err := os.ReadFile(filepath.Join(dir, "etc/group"))
	if err != nil {
		t.Fatal(err)
	}
	// All that udev's rules of the initrd name.
	for _, name := range []string{"root", "disk", "tty", "kmem", "input", "video", "audio", "lp", "cdrom", "tape", "dialout", "render", "kvm", "sgx"} {
		if !strings.Contains("\n"+string(group), "\n"+name+":") {
			t.Errorf("the group %s of udev's rules is missing", name)
		}
	}
}

// checkModules compares the index with depmod's of the same modules.
func checkModules(t *testing.T, dir, version string, modules []string) {
	t.Helper()
	depmod, err := exec.LookPath("depmod")
	if err != nil {
		t.Skip("depmod (kmod) is not installed: the module index is not compared with its files")
	}
	show := func() string {
		var all strings.Builder
		for _, name := range modules {
			cmd := exec.Command("modprobe", "--dirname", dir, "--set-version", version, "--config", os.DevNull, "--show-depends", name)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("modprobe %s: %v: %s", name, err, out)
			}
			all.Write(out)
		}
		return all.String()
	}
	ours := show()
	if out, err := exec.Command(depmod, "--basedir", dir, version).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	if theirs := show(); sortedWithin(ours) != sortedWithin(theirs) {
		t.Errorf("modprobe loads\n%s\nwith depmod's index\n%s", ours, theirs)
	}
}

// sortedWithin puts what is loaded before each module in order: modules that
// do not need each other may be loaded either way.
func sortedWithin(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// checkLibraries lets the initrd's own program loader find all libraries.
func checkLibraries(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: the program loader of the initrd is not asked in a chroot")
	}
	for _, name := range []string{
		"/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-veritysetup", "/usr/bin/udevadm", "/usr/bin/mount",
		"/usr/bin/kmod", "/usr/bin/systemctl", "/usr/sbin/dmsetup", "/usr/lib/systemd/systemd-journald",
	} {
		out, err := exec.Command("chroot", dir, "/lib64/ld-linux-x86-64.so.2", "--list", name).CombinedOutput()
		if err != nil || strings.Contains(string(out), "not found") {
			t.Errorf("%s: %v:\n%s", name, err, out)
		}
	}
}
