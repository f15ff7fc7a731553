package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/applbuild/applbuild/cidata"
)

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID9oaUF/SaHhu3KFeh8PM9t0oTkpCyDTdjmuS/i4GJQ3 me@host\n"

// names lists all files below dir, hidden ones included.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			path, err = filepath.Rel(dir, path)
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What docs/cidata.md tells to type works, in its order.
func TestCidataDocumentation(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("SKIPPED: ssh-keygen is missing, which the examples call: install openssh-client")
	}
	text, err := os.ReadFile(filepath.Join(moduleRoot, "docs", "cidata.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Dir(writeFile(t, t.TempDir(), "applbuild", "#!/bin/sh\n"+commandVariable+"=1 exec "+programFile(t)+" \"$@\"\n"))
	if err := os.Chmod(filepath.Join(bin, "applbuild"), 0o755); err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("docs/cidata.md has no block of sh")
	}
	for _, block := range blocks {
		cmd := exec.CommandContext(t.Context(), "sh", "-eux", "-c", string(block[1]))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("warning: ")) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	help := applbuild(t, "cidata", "--help").succeeds(t).stdout
	for line := range strings.SplitSeq(help, "\n") {
		if _, flag, ok := strings.Cut(line, "--"); ok && strings.HasPrefix(strings.TrimSpace(line), "-") {
			flag, _, _ = strings.Cut(flag, " ")
			if !slices.Contains([]string{"help", "store", "quiet", "log-format"}, flag) && !bytes.Contains(text, []byte("`--"+flag)) {
				t.Errorf("docs/cidata.md lacks --%s", flag)
			}
		}
	}
}

func TestCidataWritesWhatItPrints(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, ".", "id.pub", publicKey)
	args := []string{"cidata", "--hostname", "web1", "--ssh-key", "id.pub"}
	printed := applbuild(t, append(args, "--print")...).succeeds(t).stdout
	r := applbuild(t, append(args, "-o", "a.iso", "--dir", "deep/folder")...).succeeds(t)
	if r.stderr != "" || strings.Count(r.stdout, "\n") != 2 || !strings.Contains(r.stdout, "a.iso written") {
		t.Errorf("it says %q, %q", r.stdout, r.stderr)
	}
	applbuild(t, append(args, "-o", "a.img", "--format", "vfat")...).succeeds(t)
	for _, name := range []string{"a.iso", "a.img", "deep/folder"} {
		for _, file := range []string{"user-data", "meta-data"} {
			data := applbuild(t, "cidata", "inspect", name, "--cat", file).succeeds(t).stdout
			if !strings.Contains(printed, "==> "+file) || !strings.Contains(printed, data) {
				t.Errorf("%s of %s is %q; printed was %q", file, name, data, printed)
			}
		}
		var in cidata.Inspection
		if err := json.Unmarshal([]byte(applbuild(t, "cidata", "inspect", name, "--json").succeeds(t).stdout), &in); err != nil {
			t.Fatal(err)
		}
		if in.Hostname != "web1" || !strings.HasPrefix(in.InstanceID, "iid-") || len(in.Users) != 1 || in.Users[0].Name != "default" || len(in.Users[0].Keys) != 1 {
			t.Errorf("%s: %+v", name, in)
		}
	}
	if got := names(t, "."); !slices.Equal(got, []string{"a.img", "a.iso", "deep/folder/meta-data", "deep/folder/user-data", "id.pub"}) {
		t.Errorf("it left %v", got)
	}
}

func TestCidataIsTheSameEachTime(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, ".", "id.pub", publicKey)
	for _, format := range []string{"iso", "vfat"} {
		for _, epoch := range []string{"", "1700000000"} {
			t.Setenv("SOURCE_DATE_EPOCH", epoch)
			var first []byte
			for range 2 {
				applbuild(t, "cidata", "--ssh-key", "id.pub", "--grow-root", "-o", "s", "--force", "--format", format).succeeds(t)
				data, err := os.ReadFile("s")
				if err != nil {
					t.Fatal(err)
				}
				if first != nil && !bytes.Equal(first, data) {
					t.Errorf("two seeds as %s differ", format)
				}
				first = data
			}
		}
	}
}

func TestCidataReplacesByForceOnly(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, ".", "a.iso", "mine")
	writeFile(t, "d", "network-config", "old")
	writeFile(t, "d", "other", "mine")
	applbuild(t, "cidata", "--hostname", "a", "-o", "a.iso").fails(t, "a.iso", "--force")
	applbuild(t, "cidata", "--hostname", "a", "--dir", "d").fails(t, "d is not empty", "--force")
	applbuild(t, "cidata", "--hostname", "a", "--dir", "a.iso").fails(t, "a.iso")
	applbuild(t, "cidata", "--hostname", "a", "-o", "d", "--force").fails(t, "d is no regular file")
	applbuild(t, "cidata", "--hostname", "a", "-o", "new.iso", "--dir", "d").fails(t, "d is not empty") // and new.iso is not written
	applbuild(t, "cidata", "--hostname", "a", "-o", "no/new.iso").fails(t, "no/new.iso: its folder is not there: make it")
	if data, err := os.ReadFile("a.iso"); err != nil || string(data) != "mine" {
		t.Errorf("a.iso is %q (%v)", data, err)
	}
	applbuild(t, "cidata", "--hostname", "a", "-o", "a.iso", "--dir", "d", "--force").succeeds(t)
	if got := names(t, "."); !slices.Equal(got, []string{"a.iso", "d/meta-data", "d/other", "d/user-data"}) {
		t.Errorf("it left %v", got)
	}
}

func TestCidataLeavesNothingHalfWritten(t *testing.T) {
	dir := t.TempDir()
	fails := errors.New("the disk is full")
	err := writeNewFile(filepath.Join(dir, "a"), 0o644, false, func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 5<<20)); err != nil {
			return err
		}
		return fails
	})
	if !errors.Is(err, fails) {
		t.Errorf("the error is %v", err)
	}
	if err := writeNewFolder(filepath.Join(dir, "d"), 0o644, []cidata.File{{Path: "a", Data: nil}, {Path: "a/b", Data: nil}}); err == nil {
		t.Error("a file below a file was written")
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("it left %v", got)
	}
}

// A pipe would keep inspect waiting for someone who writes into it.
func TestCidataInspectRefusesWhatHasNoEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "/dev/zero"} {
		applbuild(t, "cidata", "inspect", name).fails(t, name+" is neither a file nor a folder nor a block device")
	}
}

func TestCidataSecretsAreTheirOwnersAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, ".", "s.yml", "cloud_config:\n  password: topsecret\n")
	applbuild(t, "cidata", "s.yml", "-o", "s.iso").fails(t, "s.yml:2:13", "--allow-secrets")
	applbuild(t, "cidata", "s.yml", "-o", "s.iso", "--dir", "d", "--allow-secrets").succeeds(t)
	for name, mode := range map[string]fs.FileMode{"s.iso": 0o600, "d": 0o700, "d/user-data": 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	for _, args := range [][]string{{"s.iso"}, {"s.iso", "--json"}} {
		r := applbuild(t, append([]string{"cidata", "inspect"}, args...)...).succeeds(t)
		if strings.Contains(r.stdout, "topsecret") || !strings.Contains(r.stdout, "plain password") {
			t.Errorf("inspect says %s", r.stdout)
		}
	}
}

func TestCidataForEC2(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, ".", "small.sh", "#!/bin/sh\n"+strings.Repeat("echo hello\n", 3000))
	noise := make([]byte, 40_000)
	if _, err := rand.NewChaCha8([32]byte{}).Read(noise); err != nil {
		t.Fatal(err)
	}
	writeFile(t, ".", "large.sh", "#!/bin/sh\n# "+hex.EncodeToString(noise))
	r := applbuild(t, "cidata", "--user-data", "small.sh", "--hostname", "a", "--for", "ec2", "--print").succeeds(t)
	if !strings.Contains(r.stderr, "gzip'ed") || !strings.Contains(r.stdout, "hostname: a\n") {
		t.Errorf("%s", r.stderr)
	}
	applbuild(t, "cidata", "--user-data", "large.sh", "--for", "ec2", "--print").fails(t, "16384", "gzip'ed")
	applbuild(t, "cidata", "--hostname", "a", "--for", "gce", "--print").fails(t, "--for", "ec2")
}

func TestCidataUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{nil, []string{"says nothing"}},
		{[]string{"--hostname", "a"}, []string{"-o FILE"}},
		{[]string{"--hostname", "a", "-o", "x", "--format", "ext4"}, []string{"ext4", "iso or vfat"}},
		{[]string{"a.yml", "b.yml"}, []string{"one seed file"}},
		{[]string{"--hostnam", "a"}, []string{"--hostnam"}},
	} {
		r := applbuild(t, append([]string{"cidata"}, c.args...)...)
		r.fails(t, c.words...)
		if r.code != exitUsage {
			t.Errorf("%v: exit code %d", c.args, r.code)
		}
	}
	applbuild(t, "cidata", "nothere.yml", "--print").fails(t, "nothere.yml")
	applbuild(t, "cidata", "inspect", "nothere.iso").fails(t, "nothere.iso")
	writeFile(t, ".", "x.iso", "hello")
	applbuild(t, "cidata", "inspect", "x.iso").fails(t, "x.iso", "not a NoCloud seed")
	writeFile(t, ".", "x.yml", "hostname: a\n")
	applbuild(t, "cidata", "inspect", "x.yml").fails(t, "x.yml", "--print")
}

// Seeds that other tools make are read; what is wrong with them is said, and ends with exit code 1.
func TestCidataInspectReadsOthersSeeds(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	writeFile(t, "good", "user-data", "#cloud-config\nusers:\n  - name: admin\n    sudo: ALL=(ALL) ALL\n    groups: adm, wheel\n    passwd: $6$saltsalt$abcdefghijklmnopqrstuvwxyz\n    ssh_authorized_keys:\n      - "+publicKey)
	writeFile(t, "good", "meta-data", "instance-id: i-1\nlocal-hostname: other\n")
	writeFile(t, "bad", "user-data", "#cloud-config\nusrs: []\n")
	writeFile(t, "bad", "meta-data", "")
	for _, maker := range [][]string{
		{"genisoimage", "-quiet", "-output", "SEED", "-volid", "cidata", "-joliet", "-rock", "FOLDER"},
		{"genisoimage", "-quiet", "-output", "SEED", "-volid", "CIDATA", "-joliet", "FOLDER"},
		{"xorriso", "-as", "mkisofs", "-quiet", "-o", "SEED", "-V", "CIDATA", "-J", "-r", "FOLDER"},
		{"sh", "-c", "truncate -s 2M SEED && mkfs.vfat -n CIDATA SEED >/dev/null && mcopy -i SEED FOLDER/* ::"},
		{"sh", "-c", "tar -C FOLDER -czf SEED ."},
		{"sh", "-c", "tar -cf SEED FOLDER"},
		{"cp", "-r", "FOLDER", "SEED"},
	} {
		t.Run(strings.Join(maker[:2], " "), func(t *testing.T) {
			if _, err := exec.LookPath(maker[0]); err != nil {
				t.Skipf("SKIPPED: %s is missing, which makes a seed", maker[0])
			}
			for _, folder := range []string{"good", "bad"} {
				args := slices.Clone(maker)
				for i := range args {
					args[i] = strings.NewReplacer("SEED", folder+".seed", "FOLDER", folder).Replace(args[i])
				}
				if err := os.RemoveAll(folder + ".seed"); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v: %s", args, err, out)
				}
			}
			good := applbuild(t, "cidata", "inspect", "good.seed").succeeds(t).stdout
			for _, word := range []string{"i-1", "other", "user admin", "groups adm,wheel", "sudo", "password (hash)", "SHA256:0/nN2LVflBy+7OzlNkZa7kJ1tFcS9M2ub+QM2nLf4t0 me@host"} {
				if !strings.Contains(good, word) {
					t.Errorf("%q is not in\n%s", word, good)
				}
			}
			if strings.Contains(good, "saltsalt") {
				t.Errorf("the hash is shown:\n%s", good)
			}
			bad := applbuild(t, "cidata", "inspect", "bad.seed")
			if bad.fails(t, "2 problems"); !strings.Contains(bad.stdout, "user-data:2:1: usrs: unknown key") || !strings.Contains(bad.stdout, "meta-data") {
				t.Errorf("inspect says\n%s", bad.stdout)
			}
		})
	}
}
