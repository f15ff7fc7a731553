package accounts_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/rootfs/accounts"
)

// write lays the tree down in a folder, owners included.
func (m memory) write(t *testing.T, root string) {
	t.Helper()
	var dirs []string
	for name, e := range m {
		at := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		switch e.Mode.Type() {
		case fs.ModeDir:
			dirs = append(dirs, name)
			err = errors.Join(err, os.MkdirAll(at, 0o755))
		case fs.ModeSymlink:
			err = errors.Join(err, os.Symlink(e.text, at))
		default:
			err = errors.Join(err, os.WriteFile(at, []byte(e.text), 0o600), os.Chmod(at, e.Mode))
		}
		if err = errors.Join(err, os.Lchown(at, e.UID, e.GID)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range dirs {
		if err := os.Chmod(filepath.Join(root, name), m[name].Mode.Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

func needTool(t *testing.T, name, pkg string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root may lay down files of other owners: run the tests as root")
	}
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED: %s is missing, so nothing checks what it would do: install %s", name, pkg)
	}
}

// TestUseraddAgrees compares the account files with those that useradd writes.
func TestUseraddAgrees(t *testing.T) {
	needTool(t, "useradd", "passwd")
	root := t.TempDir()
	before := sample()
	before["etc/subuid"] = entry{accounts.Attributes{Mode: 0o644}, ""}
	before["etc/subgid"] = before["etc/subuid"]
	before.write(t, root)
	number, system := 1700, 321
	users := []accounts.User{person("admin"), person("fixed"), person("next"), {Name: "svc", Shell: "/usr/sbin/nologin", Home: "/", System: true, UID: &system}}
	users[0].Groups = []string{"adm", "sudo"}
	users[0].Password = "$6$salt$hash"
	users[1].UID = &number
	for _, u := range users {
		args := []string{"--prefix", root, "--shell", u.Shell, "--home-dir", u.Home, "--user-group", "--key", "PASS_MIN_DAYS=0", "--key", "PASS_MAX_DAYS=99999", "--key", "PASS_WARN_AGE=7"}
		if u.UID != nil {
			args = append(args, "--uid", fmt.Sprint(*u.UID))
		}
		if u.Groups != nil {
			args = append(args, "--groups", strings.Join(u.Groups, ","))
		}
		if u.Password != "" {
			args = append(args, "--password", u.Password)
		}
		if u.System {
			args = append(args, "--system", "--no-create-home")
		}
		command := exec.Command("useradd", append(args, u.Name)...)
		command.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", clock.Unix()))
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("useradd %s: %v: %s", u.Name, err, out)
		}
	}
	got := before
	if _, err := accounts.Add(got, clock, users); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"passwd", "group", "shadow", "gshadow", "subuid", "subgid"} {
		want, err := os.ReadFile(filepath.Join(root, "etc", name))
		if err != nil {
			t.Fatal(err)
		}
		if text := got["etc/"+name].text; text != string(want) {
			t.Errorf("etc/%s:\n%suseradd writes:\n%s", name, text, want)
		}
	}
}

// TestPwckAndGrpckAreContent asks the programs that check account files.
func TestPwckAndGrpckAreContent(t *testing.T) {
	needTool(t, "pwck", "passwd")
	m := sample()
	u := person("admin")
	u.Groups, u.SSHKeys = []string{"adm"}, []string{"ssh-rsa AAAA"}
	if _, err := accounts.Add(m, clock, []accounts.User{u, person("second"), {Name: "svc", Shell: "/usr/sbin/nologin", Home: "/", System: true}}); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	m.write(t, root)
	for _, tool := range []string{"pwck", "grpck"} {
		out, err := exec.Command(tool, "--root", root, "--read-only").CombinedOutput()
		for line := range strings.Lines(string(out)) {
			// The tree has no programs and no homes of packages' users.
			if !strings.Contains(line, "does not exist") && !strings.Contains(line, "no changes") {
				t.Errorf("%s: %v: %s", tool, err, line)
			}
		}
	}
}

// TestVisudoIsContent asks sudo about the rules.
func TestVisudoIsContent(t *testing.T) {
	needTool(t, "visudo", "sudo")
	for _, ask := range []accounts.Sudo{accounts.AskPassword, accounts.NeedNoPassword} {
		m := sample()
		u := person("admin")
		u.Sudo = ask
		if _, err := accounts.Add(m, clock, []accounts.User{u}); err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		m.write(t, root)
		if out, err := exec.Command("visudo", "-c", "-f", filepath.Join(root, "etc/sudoers.d/admin")).CombinedOutput(); err != nil {
			t.Errorf("visudo: %v: %s", err, out)
		}
	}
}
