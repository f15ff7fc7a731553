package units_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers/units"
)

// TestClientsKnowTheirFlags runs what the services of a machine start, where
// no image or no daemon is there: the client then says so, and not that it does
// not know a flag.
func TestClientsKnowTheirFlags(t *testing.T) {
	nowhere := "unix://" + filepath.Join(t.TempDir(), "nobody")
	for _, test := range []struct {
		machine, program string
		front            []string // flags before the command
		want             string
	}{
		{"podman-4.3", "podman", []string{"--root=" + t.TempDir(), "--runroot=" + t.TempDir(), "--storage-driver=vfs"}, "image not known"},
		{"docker", "docker", []string{"--host=" + nowhere}, "the docker daemon"},
		{"containerd", "ctr", []string{"--address=" + strings.TrimPrefix(nowhere, "unix://"), "--timeout=1s", "--connect-timeout=1s"}, "nobody"},
	} {
		t.Run(test.program, func(t *testing.T) {
			program, err := exec.LookPath(test.program)
			if err != nil {
				t.Skipf("%s is missing: install podman, docker.io and containerd", test.program)
			}
			ran := 0
			for _, f := range filesOf(t, machines()[test.machine]) {
				for line := range strings.Lines(string(f.Data)) {
					_, start, is := strings.Cut(strings.TrimSpace(line), "=/usr/bin/"+test.program+" ")
					if !is || !strings.Contains(start, "run ") || strings.Contains(start, "=/bin/sh") {
						continue
					}
					runs(t, program, test.front, split(t, start), test.want)
					ran++
				}
			}
			if ran != 2 {
				t.Errorf("%d containers, want 2", ran)
			}
		})
	}
}

// runs expects a command line to end in a complaint that has want.
func runs(t *testing.T, program string, front, words []string, want string) {
	t.Helper()
	env := filepath.Join(t.TempDir(), "web.env")
	if err := os.WriteFile(env, []byte("A=b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := strings.ReplaceAll(env, "web.env", "id")
	for i := range words {
		words[i] = strings.NewReplacer("/etc/appliance/web.env", env, "%t/%N.cid", id).Replace(words[i])
	}
	out, err := exec.Command(program, append(front, words...)...).CombinedOutput()
	if err == nil || !strings.Contains(strings.ToLower(string(out)), want) {
		t.Errorf("%s %q: %v\n%s", program, words, err, out)
	}
}

// TestComposeKnowsItsFlags asks compose for its help on what the service says.
func TestComposeKnowsItsFlags(t *testing.T) {
	if exec.Command("docker", "compose", "version").Run() != nil {
		t.Skip("docker's plugin compose is missing: install docker-compose of Debian 13, or docker-compose-v2")
	}
	file := filepath.Join(t.TempDir(), "compose.yml")
	if err := os.WriteFile(file, []byte("services: {web: {image: web}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, f := range filesOf(t, units.Machine{Runtime: units.Docker, Pull: "never", Compose: file, Plugin: true}) {
		for line := range strings.Lines(string(f.Data)) {
			if start, is := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=/usr/bin/docker "); is {
				runs(t, "docker", []string{"--host=unix:///nobody"}, split(t, start), "daemon")
			}
		}
	}
}
