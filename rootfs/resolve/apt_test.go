package resolve

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An apt is apt-get with a root of its own: nothing of the host's configuration,
// sources and state has a part in what it answers.
type apt struct {
	dir string
	env []string
}

// aptIndex is an index as apt is to see it.
type aptIndex struct {
	suite, codename, archive string
	component, arch          string
	packages                 []byte
	notAutomatic, upgrades   bool
}

// newApt sets up apt-get on the indexes, for a system of the first architecture.
func newApt(t testing.TB, indexes []aptIndex, archs ...string) *apt {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("apt-get is missing: what the resolver says is not compared with apt's answer")
	}
	a := &apt{dir: t.TempDir()}
	a.env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	write := func(name string, data []byte) {
		path := filepath.Join(a.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("apt.conf", fmt.Appendf(nil, `
Dir %q;
Dir::State::status %q;
APT::Architecture %q;
APT::Architectures { %s };
APT::Install-Recommends "false";
Acquire::Languages "none";
APT::Get::Phase-Policy "false";
`, a.dir, filepath.Join(a.dir, "status"), archs[0], `"`+strings.Join(archs, `"; "`)+`";`))
	write("status", nil)
	for _, d := range []string{"var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var sources bytes.Buffer
	components := make(map[string]string) // by suite
	for _, x := range indexes {
		components[x.suite] += " " + x.component
		fmt.Fprintf(&sources, "deb [trusted=yes arch=%s] http://archive.invalid/debian %s %s\n", x.arch, x.suite, x.component)
		prefix := "var/lib/apt/lists/archive.invalid_debian_dists_" + x.suite + "_"
		yes := map[bool]string{true: "yes", false: "no"}
		write(prefix+"Release", fmt.Appendf(nil, "Origin: Debian\nLabel: Debian\nSuite: %s\nCodename: %s\nNotAutomatic: %s\nButAutomaticUpgrades: %s\nDate: Sat, 01 Jan 2000 00:00:00 UTC\nArchitectures: all %s\nComponents:%s\n",
			x.archive, x.codename, yes[x.notAutomatic], yes[x.upgrades], strings.Join(archs, " "), components[x.suite]))
		write(prefix+x.component+"_binary-"+x.arch+"_Packages", x.packages)
	}
	write("etc/apt/sources.list", sources.Bytes())
	if out, err := a.command(context.Background(), "apt-cache", "gencaches").CombinedOutput(); err != nil {
		t.Fatalf("apt-cache gencaches: %v\n%s", err, out)
	}
	return a
}

func (a *apt) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = a.env
	return cmd
}

var (
	newPackages = regexp.MustCompile(`(?m)^The following NEW packages will be installed:\n((?: .*\n)*)`)
	summary     = regexp.MustCompile(`^\d+ upgraded, \d+ newly installed`)
	newPackage  = regexp.MustCompile(`(?m)^ +(\S+) \((\S+)\)$`)
)

// install returns what apt-get would install, as "name version" or "name:arch
// version", or apt's complaint.
func (a *apt) install(ctx context.Context, recommends bool, names ...string) (set []string, complaint string) {
	flag := "--no-install-recommends"
	if recommends {
		flag = "--install-recommends"
	}
	// Once the solver is done and has printed the list, apt looks for an order
	// and plays it through. That takes ten times as long as solving, and from
	// an empty system it may find none that configures as early as it would
	// like to. The list is the answer: the rest is not waited for.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := a.command(ctx, append([]string{"apt-get", "-s", "-q", "-V", flag, "install"}, names...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err.Error()
	}
	var out, complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		return nil, err.Error()
	}
	done := false
	for sc := bufio.NewScanner(stdout); !done && sc.Scan(); {
		out.Write(append(sc.Bytes(), '\n'))
		done = summary.Match(sc.Bytes())
	}
	stop()
	if err := cmd.Wait(); !done {
		return nil, fmt.Sprintf("%s%s%v", out.Bytes(), complaints.Bytes(), err)
	}
	list := newPackages.FindSubmatch(out.Bytes())
	if list == nil {
		return nil, ""
	}
	for _, m := range newPackage.FindAllSubmatch(list[1], -1) {
		set = append(set, string(m[1])+" "+string(m[2]))
	}
	slices.Sort(set)
	return set, ""
}

// lines is a resolver's answer in the form of apt.install.
func (u *Universe) lines(pkgs []*Package) []string {
	var set []string
	for _, p := range pkgs {
		name := p.Name
		if p.Arch != "all" && p.Arch != u.archs[native] {
			name += ":" + p.Arch
		}
		set = append(set, name+" "+p.Version)
	}
	slices.Sort(set)
	return set
}

// differences lists what only one side has.
func differences(ours, apts []string) string {
	var b strings.Builder
	for _, l := range ours {
		if _, ok := slices.BinarySearch(apts, l); !ok {
			fmt.Fprintf(&b, "  only here: %s\n", l)
		}
	}
	for _, l := range apts {
		if _, ok := slices.BinarySearch(ours, l); !ok {
			fmt.Fprintf(&b, "  only apt:  %s\n", l)
		}
	}
	return b.String()
}
