package units_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/containers/units"
)

var update = flag.Bool("update", false, "write the golden files anew")

const image = "registry.example.com/web:1.4"

// awkward are texts that systemd and podman's generator would change if they
// were written as they are.
var awkward = map[string]string{
	"BLANKS": " two  words ", "QUOTES": `"double" and 'single'`, "LINES": "one\ntwo\ttabbed", "PERCENT": "100%n %%d",
	"DOLLAR": "$HOME ${PATH} $$", "SLASH": `C:\new\`, "EMPTY": "", "UNICODE": "grün ✓", "SEMICOLON": ";", "HASH": "# no comment", "BELL": "\a\x7f",
}

func full() units.Container {
	return units.Container{
		Name: "web", Image: image,
		Entrypoint: []string{"/usr/bin/app", `with "quotes"`},
		Command:    []string{"serve", "--title", "two words", "$HOME", "100%", ";", ""},
		Ports:      []string{"80:8080/tcp", "127.0.0.1:81:81/udp", "[::1]:82:82/tcp"},
		Volumes: []units.Volume{
			{Source: "/data/web", Path: "/srv", Options: []string{"Z"}, Create: true},
			{Source: "/volatile/cache", Path: "/cache", Create: true},
			{Source: "/volatile/tmp", Path: "/tmp", Create: true}, // in place of one in memory
			{Source: "/etc/localtime", Path: "/etc/localtime", Options: []string{"ro"}},
		},
		Environment:     awkward,
		EnvironmentFile: []string{"/etc/appliance/web.env"},
		Secrets:         []string{"db-password", "token"},
		After:           []string{"db"},
		Health:          &units.Health{Command: `test "$(cat /x)" = 100%`, Interval: 10 * time.Second, Timeout: 90 * time.Second, Retries: 5, StartPeriod: time.Minute},
		Restart:         "on-failure", ReadOnly: true, User: "1000:1000", Memory: 512 << 20, CPUs: "1.5",
		Labels: map[string]string{"com.example/role": "front end"},
	}
}

func db() units.Container {
	return units.Container{Name: "db", Image: "registry.example.com/db:2", Restart: "always", Volumes: []units.Volume{{Source: "dbdata", Path: "/var/lib/db"}}}
}

func machines() map[string]units.Machine {
	app := &units.User{Name: "app", UID: 1001}
	rootless := []units.Container{
		{Name: "own", Image: image, Restart: "always", Rootless: app, Volumes: []units.Volume{{Source: "/data/own", Path: "/own", Create: true}}},
		{Name: "alone", Image: image, Restart: "no", Rootless: app, Network: "none", After: []string{"own"}},
		{Name: "front", Image: image, Restart: "always", Network: "host"},
	}
	small := full()
	small.Entrypoint, small.Ports, small.Health, small.User, small.Network = nil, nil, nil, "", "host"
	alone := db()
	alone.Volumes, alone.Network = nil, "none"
	both := []units.Container{full(), db()}
	return map[string]units.Machine{
		"podman-5.4":          {Runtime: units.Podman, Version: "5.4.2", Pull: "never", Containers: both},
		"podman-4.9":          {Runtime: units.Podman, Version: "4.9.3", Pull: "never", Containers: both},
		"podman-4.3":          {Runtime: units.Podman, Version: "4.3.1", Pull: "never", Containers: both},
		"podman-5.4-rootless": {Runtime: units.Podman, Version: "5.4.2", Pull: "never", Containers: rootless},
		"podman-4.3-rootless": {Runtime: units.Podman, Version: "4.3.1", Pull: "never", Containers: rootless},
		"docker":              {Runtime: units.Docker, Pull: "never", Containers: both, Needs: []string{"applbuild-images.service"}, Compose: "/usr/share/applbuild/compose.yml"},
		"docker-pull":         {Runtime: units.Docker, Pull: "missing", Containers: []units.Container{db()}},
		"docker-plugin":       {Runtime: units.Docker, Pull: "never", Compose: "/usr/share/applbuild/compose.yml", Plugin: true},
		"containerd":          {Runtime: units.Containerd, Namespace: "k8s.io", Pull: "never", Containers: []units.Container{small, alone}},
	}
}

func filesOf(t *testing.T, m units.Machine) []units.File {
	t.Helper()
	list, err := units.Make(m)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUnitsAreThoseOfTheGoldenFiles(t *testing.T) {
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			for _, f := range filesOf(t, m) {
				if f.Link != "" {
					fmt.Fprintf(&got, "-- %s -> %s --\n", f.Path, f.Link)
					continue
				}
				fmt.Fprintf(&got, "-- %s --\n%s", f.Path, f.Data)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got:\n%swant:\n%s", got.Bytes(), want)
			}
		})
	}
}

func TestWhatARuntimeDoesNotHaveIsRefused(t *testing.T) {
	c := func(change func(*units.Container)) []units.Container {
		one := db()
		one.Volumes = nil
		change(&one)
		return []units.Container{one}
	}
	for name, m := range map[string]units.Machine{
		"runtime":          {Runtime: "runc"},
		"rootless docker":  {Runtime: units.Docker, Containers: c(func(c *units.Container) { c.Rootless = &units.User{Name: "a", UID: 1} })},
		"rootless secrets": {Runtime: units.Podman, Containers: c(func(c *units.Container) { c.Rootless, c.Secrets = &units.User{Name: "a", UID: 1}, []string{"s"} })},
		"ctr with ports":   {Runtime: units.Containerd, Containers: c(func(c *units.Container) { c.Ports = []string{"80:80/tcp"} })},
		"ctr with network": {Runtime: units.Containerd, Containers: c(func(c *units.Container) { c.Network = "own" })},
		"name of network":  {Runtime: units.Docker, Containers: c(func(c *units.Container) { c.Name = "appliance-network" })},
		"names":            {Runtime: units.Docker, Containers: []units.Container{db(), db()}},
	} {
		if _, err := units.Make(m); !errors.Is(err, units.ErrUnit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestQuadletsAreForVersionsThatStartThemWithoutANetwork(t *testing.T) {
	for version, want := range map[string]bool{"3.4.4": false, "4.3.1": false, "4.7.2": false, "4.9.3": true, "5.0.3": true, "5.2.5": false, "5.4.2": true, "6.0.0": true, "": false, "new": false} {
		if units.HasQuadlets(version) != want {
			t.Errorf("HasQuadlets(%q) is %t", version, !want)
		}
	}
}

// write lays the files of a machine down below a folder.
func write(t *testing.T, root string, list []units.File) {
	t.Helper()
	for _, f := range list {
		name := filepath.Join(root, f.Path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		if f.Link != "" {
			err = os.Symlink(f.Link, name)
		} else {
			err = os.WriteFile(name, f.Data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// split takes a command line apart as systemd does (systemd.syntax(7)), and
// then halves what systemd would expand.
func split(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	var word strings.Builder
	inside := false
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		switch b := line[i]; {
		case b == '\\':
			i++
			switch line[i] {
			case 'x':
				var n int
				if _, err := fmt.Sscanf(line[i+1:i+3], "%02x", &n); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				word.WriteByte(byte(n))
				i += 2
			default:
				word.WriteString(map[byte]string{'n': "\n", 't': "\t", 'a': "\a", 's': " ", '\\': `\`, '"': `"`, '\'': "'"}[line[i]])
			}
			inside = true
		case quote != 0 && b == quote:
			quote = 0
		case quote == 0 && (b == '"' || b == '\''):
			quote, inside = b, true
		case quote == 0 && b == ' ':
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteByte(b)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	for i := range words {
		words[i] = strings.NewReplacer("%%", "%", "$$", "$").Replace(words[i])
	}
	return words
}
