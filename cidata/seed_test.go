package cidata

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/cidata/userdata"
)

var update = flag.Bool("update", false, "write the golden files anew")

// show is a seed as a golden file holds it.
func show(s *Seed) []byte {
	var out bytes.Buffer
	for _, f := range s.Files() {
		fmt.Fprintf(&out, "==> %s <==\n%s\n", f.Path, f.Data)
	}
	for _, w := range s.Warnings() {
		fmt.Fprintf(&out, "warning: %s\n", w)
	}
	return out.Bytes()
}

func load(t *testing.T, name string, o LoadOptions) *Seed {
	t.Helper()
	s, err := Load(name, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeedFilesMakeTheseFiles(t *testing.T) {
	for _, name := range []string{"web", "parts"} {
		t.Run(name, func(t *testing.T) {
			got := show(load(t, filepath.Join("testdata", name, "seed.yml"), LoadOptions{}))
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the seed is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestFlagsAreLaidOverTheSeedFile(t *testing.T) {
	key, err := os.ReadFile("testdata/web/keys/admin.pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, map[string]string{
		"deep/seed.yml": "hostname: a\nusers:\n  - name: ops\n    ssh_key_files: ops.pub\nuser_data: u.sh\n",
		"deep/ops.pub":  string(key),
		"deep/u.sh":     "#!/bin/sh\n",
		"my.pub":        strings.Replace(string(key), "me@host", "mine", 1),
		"net.yml":       "network:\n  version: 2\n  ethernets: {e: {dhcp4: true}}\n",
		"v.sh":          "#!/bin/sh\n",
	})
	s := load(t, "deep/seed.yml", LoadOptions{Settings: Settings{
		Hostname: "b", User: "ops", SSHKeyFiles: []string{"my.pub"}, Network: "net.yml", Vagrant: "my.pub", UserData: []string{"v.sh"}, InstanceID: "one",
	}})
	for name, want := range map[string][]string{
		MetaData:      {"instance-id: one\n", "local-hostname: b\n"},
		UserData:      {"name: ops\n", "me@host\n", "mine\n", "name: vagrant\n", "NOPASSWD", "01-seed.yml", "02-u.sh", "03-v.sh"},
		NetworkConfig: {"version: 2\nethernets:\n"},
	} {
		data, _ := s.File(name)
		for _, part := range want {
			if !bytes.Contains(data, []byte(part)) {
				t.Errorf("%s lacks %q:\n%s", name, part, data)
			}
		}
	}
}

func TestKeysOfFlagsGoToTheirUsers(t *testing.T) {
	write(t, map[string]string{"k": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID9oaUF/SaHhu3KFeh8PM9t0oTkpCyDTdjmuS/i4GJQ3 me\n"})
	in := load(t, "", LoadOptions{Settings: Settings{SSHKeyFiles: []string{"k"}, Vagrant: "k"}}).Inspect()
	if len(in.Users) != 2 || in.Users[0].Name != "default" || in.Users[1].Name != "vagrant" || !in.Users[1].Sudo || len(in.Users[1].Keys) != 1 {
		t.Errorf("users %+v", in.Users)
	}
	write(t, map[string]string{"k": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID9oaUF/SaHhu3KFeh8PM9t0oTkpCyDTdjmuS/i4GJQ3 me\n", "seed.yml": "users: [default, ops]\n"})
	in = load(t, "seed.yml", LoadOptions{Settings: Settings{SSHKeyFiles: []string{"k"}, User: "ops"}}).Inspect()
	if len(in.Users) != 1 || in.Users[0].Name != "ops" || in.Users[0].Sudo || len(in.Users[0].Keys) != 1 {
		t.Errorf("users %+v", in.Users)
	}
	s := load(t, "", LoadOptions{Settings: Settings{SSHKeyFiles: []string{"k"}, Vagrant: "k"}})
	if data, _ := s.File(UserData); !bytes.Contains(data, []byte("users:\n  - default\n")) {
		t.Errorf("the default user is left out:\n%s", data)
	}
}

func TestOneFileOfUserDataIsKeptByteForByte(t *testing.T) {
	for _, text := range []string{
		"## template: jinja\n#cloud-config\nhostname: {{ x }}\n",
		"#!/bin/sh",
		"#cloud-config\n# a comment\nhostname:   web\n",
		"#include\nhttps://example.com/u\n",
		"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x53\xd6\x57\xe4\x02\x00\x5d\xc7\x46\xcd\x04\x00\x00\x00",
	} {
		in := userData(text)
		in.set.Hostname = "web"
		write(t, in.files)
		s, err := in.load(LoadOptions{})
		if err != nil && !userdata.IsGzip([]byte(text)) {
			t.Errorf("%q: %v", text, err)
		}
		if s == nil {
			continue
		}
		if got, _ := s.File(UserData); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestInstanceIDFollowsTheContents(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		"", "hostname: a\n", "hostname: b\n", "grow_root: true\n", "network: {version: 2}\n",
		"extra_files:\n  - {path: a, content: b}\n", "extra_files:\n  - {path: b, content: a}\n", "extra_files:\n  - {path: b, content: aa}\n",
	} {
		write(t, map[string]string{"seed.yml": text})
		id := load(t, "seed.yml", LoadOptions{}).InstanceID()
		if again := load(t, "seed.yml", LoadOptions{Time: time.Unix(1e9, 0)}).InstanceID(); again != id {
			t.Errorf("%q: %s, then %s", text, id, again)
		}
		if other, twice := seen[id]; twice || !strings.HasPrefix(id, "iid-") {
			t.Errorf("%q has the instance-id %s of %q", text, id, other)
		}
		seen[id] = text
	}
}

func TestSecretsAreLetInByOptionOnly(t *testing.T) {
	for _, in := range []input{
		seedFile("cloud_config:\n  password: secret\n"),
		seedFile("cloud_config:\n  ssh_keys: {rsa_private: x}\n"),
		userData("#!/bin/sh\n" + fakeKey),
		userData("#cloud-config\nchpasswd: {list: ['a:b']}\n"),
		userData("#cloud-config\nwrite_files:\n- {path: /k, encoding: b64, content: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg==}\n"),
		userData("#cloud-config\nwireguard:\n  interfaces:\n  - name: wg0\n    content: |\n      [Interface]\n      PrivateKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"),
	} {
		write(t, in.files)
		if _, err := in.load(LoadOptions{}); !errors.Is(err, ErrSecret) {
			t.Errorf("%v: %v", in, err)
		}
		if _, err := in.load(LoadOptions{AllowSecrets: true}); err != nil {
			t.Errorf("%v, allowed: %v", in, err)
		}
	}
	for _, text := range []string{
		"#cloud-config\nchpasswd: {users: [{name: a, type: RANDOM}, {name: b, password: $6$saltsalt$abcdefghijklmnop}]}\n",
		"#cloud-config\nusers:\n- {name: a, passwd: '!'}\n- {name: b, passwd: $y$j9T$abcdefghijklmnop$abcdefgh}\n",
		"#cloud-config\nssh_keys: {rsa_public: ssh-rsa AAAA}\n",
	} {
		in := userData(text)
		write(t, in.files)
		if _, err := in.load(LoadOptions{}); errors.Is(err, ErrSecret) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSeedReadsBackEqualInEveryForm(t *testing.T) {
	for _, name := range []string{"web", "parts"} {
		s := load(t, filepath.Join("testdata", name, "seed.yml"), LoadOptions{Time: time.Unix(1700000000, 0)})
		forms := map[string]*Seed{}
		var iso, again, vfat bytes.Buffer
		for _, err := range []error{s.WriteISO(&iso), s.WriteISO(&again), s.WriteVFAT(&vfat)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(iso.Bytes(), again.Bytes()) {
			t.Errorf("%s: two ISOs of one seed differ", name)
		}
		for form, data := range map[string][]byte{FormatISO: iso.Bytes(), FormatVFAT: vfat.Bytes(), FormatTar: tarball(t, s, "seed/")} {
			back, err := Read(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatalf("%s as %s: %v", name, form, err)
			}
			forms[form] = back
		}
		dir := t.TempDir()
		for _, f := range s.Files() {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f.Path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, f.Path), f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		back, err := ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		forms[FormatFolder] = back
		for form, back := range forms {
			if !back.Same(s) || back.format != form {
				t.Errorf("%s as %s (%s) reads back as\n%s", name, form, back.format, show(back))
			}
			if in := back.Inspect(); len(in.Problems) > 0 || len(in.Secrets) > 0 {
				t.Errorf("%s as %s: %v %v", name, form, in.Problems, in.Secrets)
			}
		}
		var second bytes.Buffer
		if err := forms[FormatISO].WriteISO(&second); err != nil || !bytes.Equal(second.Bytes(), iso.Bytes()) {
			t.Errorf("%s: the ISO read and written again differs (%v)", name, err)
		}
	}
}

func TestWhatIsNoSeedIsSaidSo(t *testing.T) {
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "zeros": make([]byte, 1<<20), "empty gzip": {0x1f, 0x8b, 8, 0},
		"a tar of something else": tarball(t, &Seed{files: []File{{"a", nil}}}, ""),
	} {
		if s, err := Read(bytes.NewReader(data), int64(len(data))); err == nil {
			t.Errorf("%s is a seed: %v", name, s)
		}
	}
	if _, err := ReadDir(t.TempDir()); !errors.Is(err, ErrNotSeed) {
		t.Errorf("an empty folder: %v", err)
	}
}

// A seed that is made to take long is not looked at to its end.
func TestInspectHasBounds(t *testing.T) {
	nested := "#!/bin/sh\n"
	for i := range 20 {
		nested = fmt.Sprintf("Content-Type: multipart/mixed; boundary=X%d\nMIME-Version: 1.0\n\n--X%d\n%s\n--X%d--\n", i, i, nested, i)
	}
	bomb := bytes.Repeat([]byte("#!/bin/sh\n"), 15<<20)
	packed, err := userdata.Gzip(bomb)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"many parts": []byte("Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n" + strings.Repeat("--X\n\n#!/bin/sh\n", 200_000) + "--X--\n"),
		"deep parts": []byte(nested),
		"gzip bomb":  packed,
		"archive":    []byte("#cloud-config-archive\n" + strings.Repeat("- '#!/bin/sh'\n", 100_000)),
	} {
		in := FromFiles([]File{{MetaData, []byte("instance-id: a\n")}, {UserData, data}}, time.Time{}).Inspect()
		if len(in.Problems) != 1 || !strings.Contains(in.Problems[0].What, "unfolds to too much") {
			t.Errorf("%s: %v", name, in.Problems)
		}
	}
}

func TestFilesOfASeedAreSorted(t *testing.T) {
	s := load(t, "testdata/web/seed.yml", LoadOptions{})
	var paths []string
	for _, f := range s.Files() {
		paths = append(paths, f.Path)
	}
	if !slices.IsSorted(paths) || len(paths) != 5 {
		t.Errorf("files %v", paths)
	}
}
