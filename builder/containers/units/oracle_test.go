package units_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers/units"
)

// generator finds podman's generator of version 4.8 or later; QUADLET may name
// it where it is not installed.
func generator(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("QUADLET"), "/usr/libexec/podman/quadlet", "/usr/lib/systemd/system-generators/podman-system-generator"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	t.Skip("podman's generator for quadlets is missing: install podman 4.8 or later, or name its quadlet program as QUADLET")
	return ""
}

const systemFolder = "usr/share/containers/systemd"

// generate returns the services that podman makes of a machine's quadlets in
// folder, which is that of the system or of a user.
func generate(t *testing.T, m units.Machine, folder string, flags ...string) map[string]string {
	t.Helper()
	quadlet, root := generator(t), t.TempDir()
	write(t, root, filesOf(t, m))
	run := exec.Command(quadlet, append(flags, "-dryrun")...)
	run.Env = append(os.Environ(), "QUADLET_UNIT_DIRS="+filepath.Join(root, folder))
	var stderr bytes.Buffer
	run.Stderr = &stderr
	out, err := run.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	services := map[string]string{}
	name := ""
	for line := range strings.Lines(string(out)) {
		if bare := strings.TrimSpace(line); strings.HasPrefix(bare, "---") && strings.HasSuffix(bare, "---") {
			name = strings.Trim(bare, "-")
			continue
		}
		services[name] += line
	}
	return services
}

// words are those of a service's ExecStart line.
func words(t *testing.T, service string) []string {
	t.Helper()
	for line := range strings.Lines(service) {
		if start, is := strings.CutPrefix(line, "ExecStart="); is {
			start = strings.NewReplacer("${APPLBUILD_EMPTY}", `""`, "${APPLBUILD_SEMICOLON}", `";"`).Replace(start)
			if strings.Contains(start, " ; ") {
				t.Errorf("two commands in %s", start)
			}
			return split(t, strings.TrimSuffix(start, "\n"))
		}
	}
	t.Fatalf("no ExecStart in %s", service)
	return nil
}

// TestPodmanReadsTheQuadletsAsTheyAreMeant compares what podman's generator
// makes of awkward values with the values.
func TestPodmanReadsTheQuadletsAsTheyAreMeant(t *testing.T) {
	m := machines()["podman-5.4"]
	c := full()
	services := generate(t, m, systemFolder)
	web := services["web.service"]
	got := words(t, web)
	has := func(list ...string) {
		t.Helper()
		for i := range got {
			if i+len(list) <= len(got) && slices.Equal(got[i:i+len(list)], list) {
				return
			}
		}
		t.Errorf("%q is not in %q", list, got)
	}
	for name, value := range awkward {
		has("--env", name+"="+value)
	}
	for _, port := range c.Ports {
		has("--publish", port)
	}
	has("--label", "com.example/role=front end")
	has("--health-cmd", c.Health.Command)
	has("--health-interval", "10s")
	has("--entrypoint=" + `["/usr/bin/app","with \"quotes\""]`)
	has("--env-file", "/etc/appliance/web.env")
	has("--network", "appliance")
	has("--user", "1000:1000")
	has("--pull", "never")
	has("-v", "/data/web:/srv:Z")
	has("-v", "%t/applbuild-secrets/web/token:/run/secrets/token:ro")
	has("--memory=536870912")
	has("--read-only")
	has(append([]string{image}, c.Command...)...)
	if tail := got[len(got)-len(c.Command):]; !slices.Equal(tail, c.Command) {
		t.Errorf("the command is %q, want %q", tail, c.Command)
	}
	for name, service := range services {
		if strings.Contains(service, "network-online") {
			t.Errorf("%s waits for the network:\n%s", name, service)
		}
	}
	if !strings.Contains(web, "Requires=appliance-network.service") || !strings.Contains(web, "Type=notify") {
		t.Errorf("web.service:\n%s", web)
	}
	if network := services["appliance-network.service"]; !strings.Contains(network, "podman network create --ignore appliance") {
		t.Errorf("appliance-network.service:\n%s", network)
	}
}

func TestPodmanReadsTheQuadletsOfAUser(t *testing.T) {
	services := generate(t, machines()["podman-5.4-rootless"], "etc/containers/systemd/users/1001", "-user")
	for _, name := range []string{"own.service", "alone.service", "appliance-network.service"} {
		if services[name] == "" {
			t.Errorf("there is no %s in %v", name, services)
		}
		if strings.Contains(services[name], "network-online") {
			t.Errorf("%s waits for the network:\n%s", name, services[name])
		}
	}
	if got := words(t, services["own.service"]); !slices.Contains(got, "/data/own:/own") || !slices.Contains(got, "appliance") {
		t.Errorf("own.service runs %q", got)
	}
}

// TestServicesOfAnOlderPodmanDoTheSame compares the services for a podman
// without quadlets with what a later podman makes of the quadlets.
func TestServicesOfAnOlderPodmanDoTheSame(t *testing.T) {
	services := generate(t, machines()["podman-5.4"], systemFolder)
	for _, f := range filesOf(t, machines()["podman-4.3"]) {
		name := filepath.Base(f.Path)
		if f.Link != "" || !strings.HasSuffix(name, ".service") || strings.HasSuffix(name, "-network.service") {
			continue
		}
		want, got := flagSet(words(t, services[name])), flagSet(words(t, string(f.Data)))
		for flag := range want {
			if !got[flag] {
				t.Errorf("%s lacks %q", name, flag)
			}
		}
		for flag := range got {
			if !want[flag] {
				t.Errorf("%s has %q besides", name, flag)
			}
		}
	}
}

// flagSet is a command line as a set in which --flag value is --flag=value.
func flagSet(words []string) map[string]bool {
	names := map[string]string{"-v": "--volume"}
	set := map[string]bool{}
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "--name", "--cidfile", "--network", "--publish", "-v", "--env", "--env-file", "--label", "--user", "--pull",
			"--health-cmd", "--health-interval", "--health-timeout", "--health-retries", "--health-start-period":
			name := words[i]
			if long := names[name]; long != "" {
				name = long
			}
			set[name+"="+words[i+1]] = true
			i++
		default:
			set[words[i]] = true
		}
	}
	return set
}

// TestSystemdFindsNothingWrong has systemd-analyze read the services.
func TestSystemdFindsNothingWrong(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing: install systemd")
	}
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			root, list := t.TempDir(), filesOf(t, m)
			for i := range list { // a user's units are read in a root only as the system's
				list[i].Path = strings.Replace(list[i].Path, "usr/lib/systemd/user/", "usr/lib/systemd/system/", 1)
			}
			write(t, root, list)
			verify(t, analyze, root, m)
		})
	}
}

// verify reads a machine's services in a root with everything they name.
func verify(t *testing.T, analyze, root string, m units.Machine) {
	t.Helper()
	stub := func(name, text string, mode os.FileMode) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"podman", "docker", "docker-compose", "ctr", "install", "true"} {
		stub("usr/bin/"+name, "", 0o755)
	}
	stub("bin/sh", "", 0o755)
	for _, name := range append([]string{"docker.service", "containerd.service", "nftables.service"}, m.Needs...) {
		stub("usr/lib/systemd/system/"+name, "[Service]\nExecStart=/usr/bin/true\n", 0o644)
	}
	for _, name := range []string{"sysinit.target", "basic.target", "multi-user.target", "default.target", "shutdown.target", "network-online.target", "-.mount", "system.slice", "run.mount"} {
		if strings.HasSuffix(name, ".target") || strings.HasSuffix(name, ".slice") {
			stub("usr/lib/systemd/system/"+name, "[Unit]\nDescription="+name+"\n", 0o644)
		}
	}
	names, err := filepath.Glob(filepath.Join(root, "usr/lib/systemd/*/*.service"))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--root=" + root, "--recursive-errors=no", "--man=no", "verify"}, names...)
	if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
