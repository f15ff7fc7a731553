package cidata

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
func cloudInitParts(t *testing.T, inputs [][]byte) [][]cloudInitPart {
	t.Helper()
	root := cloudInitTree(t)
	script, err := os.ReadFile("testdata/parts.py")
	if err != nil {
		t.Fatal(err)
	}
	var stdin, stdout, stderr bytes.Buffer
	encoder := json.NewEncoder(&stdin)
	for _, data := range inputs {
		if err := encoder.Encode(data); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "-c", string(script))
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	results := make([][]cloudInitPart, len(inputs))
	decoder := json.NewDecoder(&stdout)
	for i := range results {
		if err := decoder.Decode(&results[i]); err != nil {
			t.Fatal(err)
		}
	}
	return results
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
	var inputs [][]byte
	for _, name := range []string{"web", "parts"} {
		data, _ := load(t, filepath.Join("testdata", name, "seed.yml"), LoadOptions{}).File(UserData)
		packed, err := Gzip(data)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, data, packed)
	}
	for _, text := range messages {
		inputs = append(inputs, []byte(text))
	}
	inputs = append(inputs, mixed(t, inputs[:4]))
	for i, theirs := range cloudInitParts(t, inputs) {
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

// mixed is the user-data that files of these contents make.
func mixed(t *testing.T, contents [][]byte) []byte {
	t.Helper()
	files, set := map[string]string{}, Settings{}
	for i, data := range contents {
		name := fmt.Sprintf("%d.txt", i)
		files[name] = string(data)
		set.UserData = append(set.UserData, name)
	}
	script, err := os.ReadFile("testdata/parts.py")
	if err != nil {
		t.Fatal(err)
	}
	files["testdata/parts.py"] = string(script)
	write(t, files)
	s := load(t, "", LoadOptions{Settings: set})
	data, _ := s.File(UserData)
	return data
}

// messages are user-data as other tools make it.
var messages = []string{
	"#cloud-config\na: b\n", "\n\n  #Cloud-Config\na: b\n", "#!/bin/sh\n", "hello", "#cloud-boothook\nx\n", "#part-handler\n",
	"#cloud-config-archive\n- '#!/bin/sh'\n- content: 'a: b'\n  filename: x\n- type: text/x-shellscript\n  content: hello\n- content: !!binary aGVsbG8=\n  type: text/cloud-boothook\n",
	"## template: jinja\n#cloud-config\n{% if a %}\n",
	"Content-Type: text/cloud-config\nMIME-Version: 1.0\n\na: b\n",
	"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\npreamble\n--X\nContent-Type: text/x-shellscript\n\n#cloud-config\na: b\n--X\n\n#!/bin/sh\n--X\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n#cloud-config=0Aa: b\n--X--\nepilogue\n",
	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"X Y\"\r\n\r\n--X Y\r\nContent-Type: text/cloud-config\r\n\r\na: b\r\n--X Y--\r\n",
	"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: multipart/mixed; boundary=Y\n\n--Y\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\nYTog\nYgo=\n--Y--\n\n--X\nContent-Type: application/x-gzip\nContent-Transfer-Encoding: base64\n\nH4sIAAAAAAACA1NW1E/KzNMvzuACAB2d+wQKAAAA\n--X--\n",
	"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: text/x-shellscript-per-boot\n\necho\n--X\nContent-Type: TEXT/Cloud-Config; charset=utf-8\n\na: b\n--X--\n",
}
