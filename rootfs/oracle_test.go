package rootfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/sandbox"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// mmdebstrap makes a tree of the same packages. Its tar is kept beside the
// packages, as it takes long and depends on them alone.
func mmdebstrap(t *testing.T, b *Base, name string) *tree.Tree {
	t.Helper()
	tool, err := exec.LookPath("mmdebstrap")
	if err != nil {
		t.Skip("SKIPPED: mmdebstrap is not installed, so there is nothing to compare the tree with")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mmdebstrap makes its tree as root")
	}
	digest := sha256.New()
	fmt.Fprintln(digest, "all by name")
	var requests []string
	repository := t.TempDir()
	var index bytes.Buffer
	for _, d := range b.Debs {
		c := controlOf(t, filepath.Join(b.Packages, d.File))
		fmt.Fprintln(digest, d.File)
		file := filepath.Base(d.File)
		for _, field := range c.Paragraph {
			fmt.Fprintf(&index, "%s: %s\n", field.Name, strings.ReplaceAll(field.Value, "\n", "\n "))
		}
		fmt.Fprintf(&index, "Filename: ./%s\nSize: %d\nSHA256: %s\n\n", file, d.Size, strings.TrimSuffix(file, ".deb"))
		if err := hardLink(filepath.Join(b.Packages, d.File), filepath.Join(repository, file)); err != nil {
			t.Fatal(err)
		}
		requests = append(requests, d.Name)
	}
	folder := filepath.Join(cacheDir(t), "mmdebstrap")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(folder, fmt.Sprintf("%s-%x.tar", name, digest.Sum(nil)[:8]))
	if f, err := os.Open(kept); err == nil {
		t.Cleanup(func() { f.Close() })
		return indexed(t, f)
	}
	if old, err := filepath.Glob(filepath.Join(folder, name+"-*")); err == nil {
		for _, f := range old {
			os.Remove(f)
		}
	}
	if err := os.WriteFile(filepath.Join(repository, "Packages"), index.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	cmd := exec.CommandContext(t.Context(), tool, "--mode=root", "--variant=essential", "--format=tar",
		"--include="+strings.Join(requests, ","), "--aptopt=APT::Sandbox::User \"root\"",
		"", kept+".new", "deb [trusted=yes] copy://"+repository+" ./")
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/var/tmp",
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		os.Remove(kept + ".new")
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	t.Logf("mmdebstrap took %v", time.Since(start).Round(time.Millisecond))
	if err := os.Rename(kept+".new", kept); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return indexed(t, f)
}

func controlOf(t testing.TB, file string) *deb.Control {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := deb.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Control()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c
}

// hardLink makes a second name of a file, or a copy on another file system.
func hardLink(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// oracleSets are the sets of packages that are compared.
var oracleSets = map[string][]string{
	"programs": {"apt", "yamllint", "ack", "python3-debian", "locales"},
	"database": {"apt", "postgresql", "adduser"},
	"appliance": {
		"apt", "systemd-sysv", "systemd-resolved", "udev", "dbus", "openssh-server", "linux-image-cloud-amd64", "ca-certificates",
		"iproute2", "podman",
	},
}

// exceptions are the paths in which the tree is not to equal mmdebstrap's.
var exceptions = []struct{ path, reason string }{
	{"dev/*", "mmdebstrap makes device nodes; a system that boots or is started in a container has its own"},
	{"etc/apt/apt.conf.d/99mmdebstrap", "mmdebstrap's own settings"},
	{"etc/apt/sources.list", "the repository that the test made"},
	{"etc/fstab", "mmdebstrap writes a line of comment"},
	{"etc/hostname", "mmdebstrap copies the host's"},
	{"etc/resolv.conf", "mmdebstrap copies the host's"},
	{"etc/.resolv.conf.systemd-resolved.bak", "systemd-resolved's copy of the above"},
	{"etc/machine-id", "the machine makes its own; mmdebstrap leaves an empty file"},
	{"etc/ssh/ssh_host_*", "the machine makes its own"},
	{"boot/initrd.img-*", "the image's initrd is not the packages' to make"},
	{"initrd.img", "a link to it"},
	{"initrd.img.old", "a link to it"},

	// What programs keep only for themselves, as a copy or while they run.
	{"etc/passwd-", "a backup"},
	{"etc/shadow-", "a backup"},
	{"etc/group-", "a backup"},
	{"etc/gshadow-", "a backup"},
	{"var/cache/debconf/*-old", "a backup"},
	{"var/lib/dpkg/*-old", "a backup"},
	{"etc/.pwd.lock", "a lock"},
	{"var/cache/apt/archives/lock", "a lock"},
	{"var/lib/apt/lists/lock", "a lock"},
	{"var/lib/dpkg/lock", "a lock"},
	{"var/lib/dpkg/lock-frontend", "a lock"},
	{"var/lib/dpkg/triggers/Lock", "a lock"},
	{"var/cache/apt/archives/partial", "apt closes the folder when it first runs"},
	{"var/lib/apt/lists/partial", "apt closes the folder when it first runs"},
	{"var/lib/apt/extended_states", "mmdebstrap is told all packages by name, so that none counts as automatic"},
	{"var/lib/dpkg/arch", "mmdebstrap names the one architecture, which dpkg knows by itself"},

	// What scripts draw at random: two trees of mmdebstrap differ in these too.
	{"etc/ssl/private/ssl-cert-snakeoil.key", "a new key"},
	{"etc/ssl/certs/ssl-cert-snakeoil.pem", "its certificate"},
	{"etc/ssl/certs/????????.0", "links to certificates by hash: the above's"},
	{"var/lib/postgresql/*/main/global/pg_control", "the cluster's identifier and times"},
	{"var/lib/postgresql/*/main/pg_wal/*", "the cluster's identifier and times"},
	{"var/lib/postgresql/*/main/pg_stat/*", "times"},
}

func TestTreeEqualsMmdebstraps(t *testing.T) {
	if testing.Short() {
		t.Skip("three trees of real packages, made twice, take minutes")
	}
	needSandbox(t)
	for _, name := range slices.Sorted(maps.Keys(oracleSets)) {
		t.Run(name, func(t *testing.T) {
			b := debian(t, "trixie").base(t, oracleSets[name]...)
			theirs := mmdebstrap(t, b, name)
			ours := indexed(t, built(t, b))
			compareTrees(t, theirs, ours)
			checkDpkg(t, b)
			checkApt(t, b)
		})
	}
}

func compareTrees(t *testing.T, theirs, ours *tree.Tree) {
	t.Helper()
	differences, err := tree.Diff(theirs, ours)
	if err != nil {
		t.Fatal(err)
	}
	names := [2]ids{readIDs(t, theirs), readIDs(t, ours)}
	excepted := 0
	for _, d := range differences {
		switch {
		case slices.ContainsFunc(exceptions, func(e struct{ path, reason string }) bool {
			ok, err := path.Match(e.path, d.Path)
			return ok && err == nil
		}):
			excepted++
		case d.What == tree.DiffOwner && names[0].owner(t, d.A) == names[1].owner(t, d.B):
			excepted++ // users made by scripts get numbers in the order of configuring
		case d.What == tree.DiffXattr && names[0].accessLists(d.A) == "" && names[1].accessLists(d.B) == "":
			excepted++ // systemd-tmpfiles sets access control lists at each boot; not all of an image's file systems hold them
		case d.What == tree.DiffLink && "/usr"+d.A == d.B && strings.HasPrefix(d.Path, "etc/systemd/system/"):
			excepted++ // the same unit: systemctl was unpacked before the base system was configured, and enables it itself
		case d.Path == "var/lib/dpkg/triggers/File" && sameLines(t, theirs, ours, d.Path):
			excepted++ // dpkg keeps it in the order of unpacking
		case (d.What == tree.DiffContent || d.What == tree.DiffSize) && sameAccounts(t, theirs, ours, d.Path):
			excepted++
		default:
			t.Errorf("%s%s", d, lines(t, theirs, ours, d))
		}
	}
	t.Logf("%d entries, %d exceptions", ours.Len(), excepted)
}

// lines shows what differs between two small files of text.
func lines(t *testing.T, a, b *tree.Tree, d tree.Difference) string {
	if d.What != tree.DiffContent && d.What != tree.DiffSize {
		return ""
	}
	texts := [2]string{}
	for i, side := range []*tree.Tree{a, b} {
		data, err := side.ReadFile(d.Path)
		if err != nil || len(data) > 1<<20 || bytes.IndexByte(data, 0) >= 0 {
			return ""
		}
		texts[i] = string(data)
	}
	var out strings.Builder
	for i, sign := range []string{"-", "+"} {
		other := strings.Split(texts[1-i], "\n")
		for line := range strings.SplitSeq(texts[i], "\n") {
			if !slices.Contains(other, line) {
				fmt.Fprintf(&out, "\n\t%s %s", sign, line)
			}
		}
	}
	if out.Len() == 0 {
		return "\n\tthe same lines in another order"
	}
	return out.String()[:min(out.Len(), 2000)]
}

// sameLines says whether a file has the same lines in both trees.
func sameLines(t *testing.T, a, b *tree.Tree, file string) bool {
	t.Helper()
	var texts [2][]string
	for i, side := range []*tree.Tree{a, b} {
		data, err := side.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = strings.Split(string(data), "\n")
		slices.Sort(texts[i])
	}
	return slices.Equal(texts[0], texts[1])
}

// ids are the names of users and groups by number.
type ids struct{ users, groups map[string]string }

func readIDs(t *testing.T, from *tree.Tree) ids {
	t.Helper()
	read := func(file string) map[string]string {
		names := map[string]string{}
		data, err := from.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) > 2 {
				names[fields[2]] = fields[0]
			}
		}
		return names
	}
	return ids{read("etc/passwd"), read("etc/group")}
}

// owner turns numbers into names.
func (i ids) owner(t *testing.T, numbers string) string {
	uid, gid, _ := strings.Cut(numbers, ":")
	user, group := i.users[uid], i.groups[gid]
	if user == "" || group == "" {
		t.Errorf("owner %s has no name", numbers)
	}
	return user + ":" + group
}

// accessLists takes POSIX access control lists out of a list of attributes.
func (i ids) accessLists(attributes string) string {
	var rest []string
	for attribute := range strings.FieldsSeq(attributes) {
		if !strings.HasPrefix(attribute, "system.posix_acl_") {
			rest = append(rest, attribute)
		}
	}
	return strings.Join(rest, " ")
}

// sameAccounts says whether two files of users or groups are the same but for
// their order, numbers given by scripts, and the days of passwords.
func sameAccounts(t *testing.T, a, b *tree.Tree, file string) bool {
	names := []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid"}
	if !slices.Contains(names, file) {
		return false
	}
	var texts [2][]string
	for i, side := range []*tree.Tree{a, b} {
		data, err := side.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		known := readIDs(t, side)
		for line := range strings.Lines(string(data)) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			switch {
			case file == "etc/passwd" && isDynamic(fields[2]):
				fields[2], fields[3] = "dynamic", known.groups[fields[3]]
			case file == "etc/group" && isDynamic(fields[2]):
				fields[2] = "dynamic"
			case file == "etc/shadow":
				fields[2] = "day"
			}
			texts[i] = append(texts[i], strings.Join(fields, ":"))
		}
		slices.Sort(texts[i])
	}
	return slices.Equal(texts[0], texts[1])
}

// isDynamic says whether scripts give out the number: 100 to 999, Debian Policy
// section 9.2.2.
func isDynamic(number string) bool { return len(number) == 3 }

// inTree runs a program in the tree that was built and returns its output.
func inTree(t *testing.T, b *Base, argv ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := sandbox.Run(t.Context(), sandbox.Spec{
		Root: filepath.Join(b.Scratch, "tree"), IDs: sandbox.Range, Argv: argv, Env: scriptEnv(), Stdout: &out, Stderr: &out,
	})
	return out.String(), err
}

// checkDpkg makes sure that dpkg finds nothing wrong and all packages installed.
func checkDpkg(t *testing.T, b *Base) {
	t.Helper()
	for _, argv := range [][]string{{"dpkg", "--audit"}, {"dpkg", "--verify"}} {
		if out, err := inTree(t, b, argv...); err != nil || out != "" {
			t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	}
	out, err := inTree(t, b, "dpkg-query", "-W", "-f", "${db:Status-Abbrev}\n")
	if n := strings.Count(out, "ii \n"); err != nil || n != len(b.Debs) {
		t.Errorf("%d of %d packages are installed (%v)", n, len(b.Debs), err)
	}
}

// checkApt makes sure that apt works in the tree: it finds nothing broken, knows
// which packages were asked for, and would remove one.
func checkApt(t *testing.T, b *Base) {
	t.Helper()
	for _, argv := range [][]string{{"apt-get", "check"}, {"apt-get", "-s", "install", "apt"}, {"apt-get", "-s", "--autoremove", "dist-upgrade"}} {
		out, err := inTree(t, b, argv...)
		if err != nil || strings.Contains(out, "Remv") || strings.Contains(out, "E:") || strings.Contains(out, "W:") {
			t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	}
	manual, err := inTree(t, b, "apt-mark", "showmanual")
	if err != nil {
		t.Errorf("apt-mark: %v\n%s", err, manual)
	}
	for _, d := range b.Debs {
		if !d.Auto && !slices.Contains(strings.Fields(manual), d.Name) {
			t.Errorf("apt does not know that %s was asked for", d.Name)
		}
	}
}
