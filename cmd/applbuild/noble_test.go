package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// nobleVariable names a folder with packages of Ubuntu 24.04 in debs/ and, in
// status, what dpkg says of the tree that debootstrap makes of them.
const nobleVariable = "APPLBUILD_UBUNTU_NOBLE"

// Real packages of Ubuntu come to a verity disk without a kernel, whose package
// database is the one that debootstrap's tree has. Those packages have no
// squashfs-tools: the archive gets trixie's programs beside them, which run with
// noble's libraries and leave no trace in the disk.
func TestNoble(t *testing.T) {
	noble := os.Getenv(nobleVariable)
	if noble == "" {
		t.Skipf("SKIPPED: %s does not name a folder with packages of Ubuntu 24.04", nobleVariable)
	}
	trixie := built.disk(t)
	a := archivetest.New(t, "noble", archivetest.Pockets("noble-updates", "noble-security"), archivetest.Components("main", "universe"))
	a.AddPool(filepath.Join(noble, "debs"))
	var names []string
	for _, p := range a.Packages() {
		names = append(names, p.Get("Package"))
	}
	d := &tiny{Archive: a, dir: t.TempDir()}
	d.store, d.out = filepath.Join(d.dir, "store"), filepath.Join(d.dir, "out")
	var tools []lock.Package
	for _, p := range trixie.lock(t).Tools {
		if !slices.Contains(names, p.Name) && !strings.HasPrefix(p.Name, "lib") || p.Name == "liblzo2-2" || p.Name == "libdeflate0" {
			tools = append(tools, p)
		}
	}
	d.addPackages(t, trixie, tools)
	d.recipe = writeFile(t, d.dir, "noble.yml", fmt.Sprintf(`name: noble
distribution: ubuntu
release: noble
architecture: amd64
boot: none
mirrors: [{uri: "%s", keyring: keyring.gpg}]
packages: [%s]
`, d.URL, strings.Join(names, ", ")))
	d.publish(t, nil)
	d.image(t).succeeds(t)

	l, err := lock.Read(lock.PathFor(d.recipe))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Packages) != len(names) {
		t.Errorf("%d packages of %d", len(l.Packages), len(names))
	}
	image := filepath.Join(d.out, "noble_0_amd64.raw")
	applbuild(t, "verify", image).succeeds(t)
	root, hashes := extract(t, image, "root-x86-64"), extract(t, image, "root-x86-64-verity")
	hash, err := os.ReadFile(filepath.Join(d.out, "noble_0_amd64.roothash"))
	if err != nil {
		t.Fatal(err)
	}
	asks(t, "veritysetup", "verify", root, hashes, strings.TrimSpace(string(hash)))
	want, err := os.ReadFile(filepath.Join(noble, "status"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	got := asks(t, "unsquashfs", "-cat", root, "var/lib/dpkg/status")
	// diff fails where there is a difference.
	diff := exec.Command("diff", "-u", writeFile(t, dir, "debootstrap", own(string(want))), writeFile(t, dir, "applbuild", own(got)))
	if out, err := diff.CombinedOutput(); err != nil {
		t.Errorf("dpkg's status is another than debootstrap's:\n%s", out[:min(len(out), 4000)])
	}
}

// own leaves out of dpkg's status what debootstrap has dpkg take from the
// archive's index instead of the package, as apt and mmdebstrap do not.
func own(status string) string {
	return regexp.MustCompile("(?m)^(Priority|Section): .*\n").ReplaceAllString(status, "")
}
