package uki

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/vm/oracle"
)

// realUKI is an image of Debian 13's stub and kernel, with its inputs as files
// in a folder of the tree.
func realUKI(t *testing.T, tree oracle.Tree) (u *UKI, host, inside string) {
	t.Helper()
	host, inside = tree.TempDir(t)
	files := map[string]string{
		"initrd1": "one", "initrd2": strings.Repeat("two", 1000), "osrel": "ID=test\nVERSION_ID=1\n",
		"splash": "BM", "ucode": "microcode", "dtb": "dtb", "pcrpkey": "-----BEGIN PUBLIC KEY-----\n", "profile": "ID=main\n",
		"cmdline": "roothash=0123 console=ttyS0",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(host, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) Content {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(b)
	}
	return &UKI{
		Stub:      read(tree.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")),
		Linux:     read(tree.Kernel(t)),
		Initrd:    []Content{strings.NewReader(files["initrd1"]), strings.NewReader(files["initrd2"])},
		OSRelease: files["osrel"], Cmdline: files["cmdline"],
		Splash: strings.NewReader(files["splash"]), Microcode: strings.NewReader(files["ucode"]),
		DeviceTree: strings.NewReader(files["dtb"]), PCRPKey: []byte(files["pcrpkey"]),
	}, host, inside
}

// ukify makes the same bytes of the same input.
func TestUkifyBuild(t *testing.T) {
	tree := oracle.Find(t)
	u, host, inside := realUKI(t, tree)
	tree.Run(t, "/usr/bin/ukify", "build", "--stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
		"--linux="+strings.TrimPrefix(tree.Kernel(t), tree.Root), "--initrd="+inside+"/initrd1", "--initrd="+inside+"/initrd2",
		"--os-release=@"+inside+"/osrel", "--cmdline=@"+inside+"/cmdline", "--splash="+inside+"/splash",
		"--microcode="+inside+"/ucode", "--devicetree="+inside+"/dtb", "--pcrpkey="+inside+"/pcrpkey",
		"--output="+inside+"/ukify.efi")
	want, err := os.ReadFile(filepath.Join(host, "ukify.efi"))
	if err != nil {
		t.Fatal(err)
	}
	got := build(t, u)
	if bytes.Equal(got, want) {
		return
	}
	a, b := read(t, got), read(t, want)
	for i := range max(len(a.Sections), len(b.Sections)) {
		if i >= len(a.Sections) || i >= len(b.Sections) {
			t.Fatalf("%d sections, ukify has %d", len(a.Sections), len(b.Sections))
		}
		ours, theirs := a.Sections[i], b.Sections[i]
		x, _ := ours.SHA256()
		y, _ := theirs.SHA256()
		if ours.Name != theirs.Name || x != y {
			t.Errorf("section %d: %s with %x, ukify has %s with %x", i, ours.Name, x[:4], theirs.Name, y[:4])
		}
	}
	t.Error("the image differs from ukify's")
}

// ukify, objdump and python's pefile read an image with every section.
func TestUkifyInspect(t *testing.T) {
	tree := oracle.Find(t)
	u, host, inside := realUKI(t, tree)
	u.Profile, u.PCRSig = "ID=main\n", []byte("{}")
	image := build(t, u)
	path := filepath.Join(host, "own.efi")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	f := read(t, image)

	var sections map[string]struct {
		Size   int64
		SHA256 string
	}
	out := tree.Run(t, "/usr/bin/ukify", "inspect", inside+"/own.efi", "--all", "--json=short")
	if err := json.Unmarshal([]byte(out), &sections); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, s := range f.Sections {
		sum, err := s.SHA256()
		if err != nil {
			t.Fatal(err)
		}
		if theirs := sections[s.Name]; theirs.Size != s.Size || theirs.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %d bytes, %x; ukify says %d, %s", s.Name, s.Size, sum, theirs.Size, theirs.SHA256)
		}
	}
	if len(sections) != len(f.Sections) {
		t.Errorf("%d sections, ukify says %d", len(f.Sections), len(sections))
	}

	out = tree.Run(t, "/usr/bin/python3", "-c",
		"import pefile,sys; p=pefile.PE(sys.argv[1]); print(p.get_warnings()); print(p.generate_checksum() is not None)", inside+"/own.efi")
	if out != "[]\nTrue\n" {
		t.Errorf("pefile says %s", out)
	}
	if _, err := exec.LookPath("objdump"); err != nil {
		t.Skip("SKIPPED: objdump (binutils) is missing")
	}
	cmd := exec.Command("objdump", "-h", "-w", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	table, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("objdump: %v: %s", err, stderr.Bytes())
	}
	var names, want []string
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 5 && strings.HasPrefix(fields[1], ".") {
			names = append(names, fields[1])
		}
	}
	for _, s := range f.Sections {
		want = append(want, s.Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("objdump sees %v, want %v", names, want)
	}
}

func TestSystemdMeasure(t *testing.T) {
	tree := oracle.Find(t)
	u, host, inside := realUKI(t, tree)
	u.Initrd, u.Uname, u.Profile = u.Initrd[:1], "6.1-test", "ID=main\n"
	f := read(t, build(t, u))
	args := []string{"/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--json=short"}
	for _, name := range measured() {
		s, err := f.Section(name)
		if err != nil {
			continue
		}
		b := make([]byte, s.Size)
		if _, err := io.ReadFull(s.Open(), b); err != nil {
			t.Fatal(err)
		}
		file := "section" + name
		if err := os.WriteFile(filepath.Join(host, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--"+name[1:]+"="+inside+"/"+file)
	}
	phases := append(Phases(), "enter-initrd:leave-initrd:sysinit:ready:shutdown:final")
	for _, p := range phases {
		args = append(args, "--phase="+p)
	}
	var answer struct {
		SHA256 []struct{ Phase, Hash string }
	}
	if err := json.Unmarshal([]byte(tree.Run(t, args...)), &answer); err != nil {
		t.Fatal(err)
	}
	values, err := PCR11(f.Sections, phases)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.SHA256) != len(values) {
		t.Fatalf("systemd-measure says %v", answer)
	}
	got, want := map[string]string{}, map[string]string{}
	for i, v := range values {
		got[v.Phase] = hex.EncodeToString(v.SHA256[:])
		want[answer.SHA256[i].Phase] = answer.SHA256[i].Hash
	}
	for phase := range want {
		if got[phase] != want[phase] {
			t.Errorf("%s: %s, systemd-measure says %s", phase, got[phase], want[phase])
		}
	}
}

// pesign, sbsign and sbverify agree on the digest that signatures are made over,
// for an image, the stub and the kernel, signed and unsigned.
func TestAuthenticodeOracles(t *testing.T) {
	tree := oracle.Find(t)
	u, host, inside := realUKI(t, tree)
	writeKey(t, host)
	if err := os.WriteFile(filepath.Join(host, "own.efi"), build(t, u), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"image":  inside + "/own.efi",
		"stub":   "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
		"loader": "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
	} {
		digest := func(path string) [sha256.Size]byte {
			b, err := os.ReadFile(tree.Path(path))
			if err != nil {
				t.Fatal(err)
			}
			sum, err := Authenticode(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return sum
		}
		got := digest(path)
		if out := tree.Run(t, "/usr/bin/pesign", "-h", "-i", path); !strings.HasPrefix(out, fmt.Sprintf("%x ", got)) {
			t.Errorf("%s: %x, pesign says %s", name, got, out)
		}
		signed := inside + "/" + name + ".signed"
		tree.Run(t, "/usr/bin/sbsign", "--key", inside+"/key.pem", "--cert", inside+"/cert.pem", "--output", signed, path)
		tree.Run(t, "/usr/bin/sbverify", "--cert", inside+"/cert.pem", signed)
		if again := digest(signed); again != got {
			t.Errorf("%s: %x unsigned, %x signed", name, got, again)
		}
		b, err := os.ReadFile(tree.Path(signed))
		if err != nil {
			t.Fatal(err)
		}
		// The digest stands in the signature as it is.
		if !bytes.Contains(b, got[:]) {
			t.Errorf("%s: sbsign signed another digest than %x", name, got)
		}
		if !read(t, b).Signed {
			t.Errorf("%s: a signed file reads as unsigned", name)
		}
	}
}

func writeKey(t *testing.T, dir string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"key.pem": {Type: "PRIVATE KEY", Bytes: der}, "cert.pem": {Type: "CERTIFICATE", Bytes: cert},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
