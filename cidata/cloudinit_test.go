package cidata

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/distro"
)

// cloudInitTree returns the root folder of a tree of Debian 13 with cloud-init in it, the one that the tests of package
// schema use too, or skips the test. Whoever comes first makes it.
func cloudInitTree(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: cloud-init is asked in long tests only")
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, which the tree with cloud-init is entered as")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("SKIPPED: a cache folder is missing: %v", err)
	}
	root := filepath.Join(cache, "applbuild-test", "trixie-cloud-init")
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(root+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	// What the postinst of ca-certificates would make, and what says that the tree is whole.
	const certificates = "etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(filepath.Join(root, certificates)); err == nil {
		return root
	}
	for _, old := range []string{root, root + ".part"} {
		if err := os.RemoveAll(old); err != nil {
			t.Fatal(err)
		}
	}
	extract(t, root+".part")
	var all []byte
	names, _ := filepath.Glob(filepath.Join(root+".part", "usr/share/ca-certificates/mozilla/*.crt"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if err := os.WriteFile(filepath.Join(root+".part", certificates), all, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(root+".part", root); err != nil {
		t.Fatal(err)
	}
	return root
}

// extract unpacks cloud-init and what it depends on, without configuring anything.
func extract(t *testing.T, root string) {
	t.Helper()
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("SKIPPED: mmdebstrap is missing, which makes the tree with cloud-init")
	}
	release, err := distro.Lookup("debian", "trixie")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := release.Sources(distro.SourceOptions{Arch: "amd64", HostApt: os.DirFS("/etc/apt")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--mode=root", "--variant=extract", "--quiet",
		"--aptopt=APT::Install-Recommends false", "--include=base-files,cloud-init", "trixie", root, sources[0].URI)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: cloud-init is missing, mmdebstrap could not make a tree with it (%v): %s", err, bytes.TrimSpace(out))
	}
}

// A cloudInitPart is a part as cloud-init sees it.
type cloudInitPart struct {
	Type string `json:"type"`
	Data []byte `json:"data"`
}

// cloudInitParts has cloud-init take user-data apart.
func cloudInitParts(t *testing.T, root string, inputs [][]byte) [][]cloudInitPart {
	t.Helper()
	var lines []any
	for _, data := range inputs {
		lines = append(lines, data)
	}
	results := make([][]cloudInitPart, len(inputs))
	decoder := json.NewDecoder(inTree(t, root, "testdata/parts.py", lines))
	for i := range results {
		if err := decoder.Decode(&results[i]); err != nil {
			t.Fatal(err)
		}
	}
	return results
}

// inTree runs a Python script in the tree, with one JSON value a line on its standard input, and returns what it says.
func inTree(t *testing.T, root, script string, lines []any) io.Reader {
	t.Helper()
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	var stdin, stdout, stderr bytes.Buffer
	encoder := json.NewEncoder(&stdin)
	for _, line := range lines {
		if err := encoder.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "-c", string(text))
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	return &stdout
}

// ourParts takes user-data apart as cloud-init shows it: without what only holds other parts, and with one word for a
// part that is passed over.
func ourParts(data []byte) ([]string, error) {
	var parts []string
	w := &walker{visit: func(p part) {
		if p.contentType != typeArchive {
			parts = append(parts, showPart(p.contentType, p.data))
		}
	}}
	w.walk(data, inFile(UserData))
	return parts, w.problems.err()
}

func showPart(contentType string, data []byte) string {
	if contentType == "" || contentType == typePlain || contentType == "text/x-not-multipart" {
		contentType = "unknown"
	}
	return fmt.Sprintf("%s %q", contentType, data)
}

func TestUserDataComesApartAsInCloudInit(t *testing.T) {
	root := cloudInitTree(t)
	var inputs [][]byte
	for _, name := range []string{"web", "parts"} {
		data, _ := load(t, filepath.Join("testdata", name, "seed.yml"), LoadOptions{}).File(UserData)
		packed, err := gzipped(data)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, data, packed)
	}
	for _, text := range messages {
		inputs = append(inputs, []byte(text))
	}
	inputs = append(inputs, mixed(t, inputs[:4]))
	for i, theirs := range cloudInitParts(t, root, inputs) {
		var want []string
		for _, p := range theirs {
			want = append(want, showPart(p.Type, p.Data))
		}
		got, err := ourParts(inputs[i])
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q comes apart as\n%s\n(%v), in cloud-init as\n%s", inputs[i], strings.Join(got, "\n"), err, strings.Join(want, "\n"))
		}
	}
}

// cloud-init's own examples are taken where `cloud-init schema` takes them, and refused where it refuses them. The keys
// in them are let in.
func TestExamplesOfCloudInitAreJudgedAsByCloudInit(t *testing.T) {
	root := cloudInitTree(t)
	names, err := filepath.Glob(filepath.Join(root, "usr/share/doc/cloud-init/examples/*.txt"))
	if err != nil || len(names) < 30 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	var lines []any
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, map[string]any{"type": "cloud-config", "data": data})
	}
	decoder := json.NewDecoder(inTree(t, root, "schema/testdata/judge.py", lines))
	for _, name := range names {
		var theirs struct {
			Valid bool
			Why   string
		}
		if err := decoder.Decode(&theirs); err != nil {
			t.Fatal(err)
		}
		_, err := Load("", LoadOptions{Settings: Settings{UserData: []string{name}}, AllowSecrets: true})
		if theirs.Valid != (err == nil) {
			t.Errorf("%s: %v; cloud-init: %v %s", filepath.Base(name), err, theirs.Valid, theirs.Why)
		}
	}
}

// What is written as YAML is read by cloud-init's YAML, which is another version, as the same text.
func TestTextsReachCloudInitUnchanged(t *testing.T) {
	root := cloudInitTree(t)
	texts := []string{
		"", " ", "\n", "a\n", "a\n\n", "\na", " a\n b\n", "a\n ", "a \nb", "\ta\n", "a\tb", "a\r\nb", "a\rb", "\x00", "\x1b[0m", "\u0085", "\u2028\n", "\ufeff",
		"y", "n", "yes", "No", "on", "OFF", "true", "null", "~", "1", "01", "0o7", "0x1F", "1_000", "1e3", "1:30", "190:20:30", ".inf", "-.5", "2001-01-01", "=", "<<",
		"-", "--", "---", "...", "- a", "a: b", "a:", ":a", "#a", "a #b", "a#b", "?", "? a", "!a", "&a", "*a", "%a", "@a", "`a", "|", ">", "[a", "a]", "{a", "a, b", "'a'", "\"a\"", "a'b", "\\", "a\\nb",
		"{{ x }}", "grüß", "😀", "日本\n語", strings.Repeat("long ", 1000), strings.Repeat("x", 5000) + "\n", "$6$a$b", "ALL=(ALL) NOPASSWD:ALL", "-----BEGIN-----\nabc=\n",
	}
	list := listNode(Position{})
	for _, s := range texts {
		list.items = append(list.items, textNode(s, Position{}))
	}
	n := mapNode(Position{})
	n.set("texts", list)
	data, _, err := render(n, cloudConfigHeader)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.NewDecoder(inTree(t, root, "testdata/texts.py", []any{data})).Decode(&got); err != nil {
		t.Fatal(err)
	}
	for i, want := range texts {
		if i >= len(got) || got[i] != want {
			t.Errorf("%q became %q", want, got[i])
		}
	}
}

// mixed is the user-data that files of these contents make.
func mixed(t *testing.T, contents [][]byte) []byte {
	t.Helper()
	files, set := map[string]string{}, Settings{}
	for i, data := range contents {
		name := fmt.Sprintf("%d.txt", i)
		files[name] = string(data)
		set.UserData = append(set.UserData, name)
	}
	s := load(t, "", LoadOptions{Settings: set, readFile: func(name string) ([]byte, error) { return []byte(files[name]), nil }})
	data, _ := s.File(UserData)
	return data
}

// messages are user-data as other tools make it.
var messages = []string{
	"#!/bin/sh\nprintf 'MIME-Version: 1.0\n\nhello\n' | sendmail\n",
	"From nobody Thu Jan  1 00:00:00 1970\nContent-Type: text/x-shellscript\nMIME-Version: 1.0\n\n#!/bin/sh\n",
	"#cloud-config\na: b\n", "\n\n  #Cloud-Config\na: b\n", "#!/bin/sh\n", "hello", "#cloud-boothook\nx\n", "#part-handler\n",
	"#cloud-config-archive\n- '#!/bin/sh'\n- content: 'a: b'\n  filename: x\n- type: text/x-shellscript\n  content: hello\n- content: !!binary aGVsbG8=\n  type: text/cloud-boothook\n",
	"## template: jinja\n#cloud-config\n{% if a %}\n",
	"Content-Type: text/cloud-config\nMIME-Version: 1.0\n\na: b\n",
	"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\npreamble\n--X\nContent-Type: text/x-shellscript\n\n#cloud-config\na: b\n--X\n\n#!/bin/sh\n--X\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n#cloud-config=0Aa: b\n--X--\nepilogue\n",
	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"X Y\"\r\n\r\n--X Y\r\nContent-Type: text/cloud-config\r\n\r\na: b\r\n--X Y--\r\n",
	"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: multipart/mixed; boundary=Y\n\n--Y\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\nYTog\nYgo=\n--Y--\n\n--X\nContent-Type: application/x-gzip\nContent-Transfer-Encoding: base64\n\nH4sIAAAAAAACA1NW1E/KzNMvzuACAB2d+wQKAAAA\n--X--\n",
	"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: text/x-shellscript-per-boot\n\necho\n--X\nContent-Type: TEXT/Cloud-Config; charset=utf-8\n\na: b\n--X--\n",
}
