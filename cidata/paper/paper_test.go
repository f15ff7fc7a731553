package paper

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// document is a paper with a file of each kind.
func document(archive []byte) Document {
	return Document{
		Name: "web1", Archive: archive, Host: "web1.example.org", InstanceID: "iid-0123456789abcdef",
		ISOSHA256: strings.Repeat("ab", 32), Date: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		Files: []File{
			{"meta-data", []byte("instance-id: iid-0123456789abcdef")},
			{"user-data", []byte("#cloud-config\nhostname: web1\ngecos: (Zoë) \\ 中\n\ttab\x07€\xa0\u00a0\n" + strings.Repeat("abc ", 100) + "\n")},
			{"logo.bin", []byte("\x00\x01\x02")},
			{"empty", nil},
		},
	}
}

func write(t testing.TB, d Document) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, d); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func tool(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED: %s is missing, which this test asks as an oracle: install %s", name, pkg)
	}
}

// pages renders a PDF as a scanner would see it, 300 dots to the inch, and returns the folder with the pictures.
func pages(t *testing.T, pdf []byte) string {
	t.Helper()
	tool(t, "pdftoppm", "poppler-utils")
	tool(t, "zbarimg", "zbar-tools")
	dir := t.TempDir()
	cmd := exec.Command("pdftoppm", "-r", "300", "-gray", "-", filepath.Join(dir, "page"))
	cmd.Stdin = bytes.NewReader(pdf)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("pdftoppm: %v: %s", err, out)
	}
	return dir
}

// read is what zbar reads of the pictures in a folder.
func read(t *testing.T, dir string) Scan {
	t.Helper()
	pictures, err := filepath.Glob(filepath.Join(dir, "*.pgm"))
	if err != nil || len(pictures) == 0 {
		t.Fatalf("no pictures: %v", err)
	}
	out, err := exec.Command("zbarimg", append([]string{"--nodbus", "-q", "--raw", "-Sdisable", "-Sqrcode.enable"}, pictures...)...).Output()
	// 4 says that there are pages without a code, those of text.
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 4) {
		t.Fatalf("zbarimg: %v", err)
	}
	return Scan{"zbarimg", out}
}

func TestAScannerReadsAllCodesOfAPaper(t *testing.T) {
	sizes := []int{1, 700, 9 * chunkSize}
	if !testing.Short() {
		sizes = append(sizes, 16<<10, 60<<10)
	}
	for _, size := range sizes {
		archive := noise(size, byte(size))
		s := read(t, pages(t, write(t, document(archive))))
		if got, err := Join(s); err != nil || !bytes.Equal(got, archive) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if found, want := bytes.Count(s.Text, []byte("APPLSEED1:")), len(split(t, archive)); found != want {
			t.Errorf("%d bytes: %d of %d codes are read", size, found, want)
		}
	}
}

// TestCodesAreReadFromABadScan takes contrast away, and adds noise and specks, as old toner and a dirty glass do.
func TestCodesAreReadFromABadScan(t *testing.T) {
	archive := noise(10*chunkSize, 9)
	dir := pages(t, write(t, document(archive)))
	pictures, err := filepath.Glob(filepath.Join(dir, "*.pgm"))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range pictures {
		picture, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 20; i < len(picture); i++ {
			picture[i] = byte(60 + int(picture[i])*150/255 + random.IntN(40))
			if random.IntN(200) == 0 {
				picture[i] = byte(random.IntN(256))
			}
		}
		if err := os.WriteFile(name, picture, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Join(read(t, dir)); err != nil || !bytes.Equal(got, archive) {
		t.Error(err)
	}
}

func TestTheTextOfTheFilesIsOnThePaper(t *testing.T) {
	tool(t, "pdftotext", "poppler-utils")
	archive := noise(2000, 10)
	text := pdfText(t, write(t, document(archive)))
	for _, want := range []string{
		"SECRET: this paper holds the seed in clear", "host web1.example.org", "instance-id iid-0123456789abcdef", "2026-01-02",
		fmt.Sprintf("SHA-256 %x", sha256.Sum256(archive)), "page 1 of 2", "page 2 of 2", "web1.iso",
		"3 codes and 1 spare one,", "code 1 of 3", "spare 1 of 1", "#cloud-config", `gecos: (Zoë) \ \u{4E2D}`, `»       tab\u{0007}€\x{A0}\u{00A0}`,
		"3 bytes that are no text", "An empty file", "The last line has no line break",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}

func pdfText(t *testing.T, pdf []byte) string {
	t.Helper()
	cmd := exec.Command("pdftotext", "-layout", "-", "-")
	cmd.Stdin = bytes.NewReader(pdf)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("pdftotext: %v: %s", err, stderr.String())
	}
	return string(out)
}

func TestEncryptedPaperGivesNothingAway(t *testing.T) {
	tool(t, "pdftotext", "poppler-utils")
	for _, program := range []string{"age", "gpg"} {
		d := document(noise(500, 11))
		d.Encrypted = program
		text := pdfText(t, write(t, d))
		for _, secret := range []string{"example.org", "iid-", "SECRET", "cloud-config", "meta-data ", "abab"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is on encrypted paper", secret)
			}
		}
		if !strings.Contains(text, "encrypted for "+program) || !strings.Contains(text, "seed.tar.gz."+program) && program == "age" {
			t.Errorf("the paper does not say how to open it: %s", text)
		}
	}
}

func TestTheSamePaperIsTheSameBytes(t *testing.T) {
	d := document(noise(5000, 12))
	first := write(t, d)
	if !bytes.Equal(first, write(t, d)) {
		t.Error("written twice it differs")
	}
	d.Date = time.Time{}
	if bytes.Contains(first, []byte("/CreationDate")) || bytes.Equal(first, write(t, d)) {
		t.Error("the date is not the one given")
	}
}

func TestLongFilesEndInTheCodes(t *testing.T) {
	d := document([]byte("x"))
	d.Files = []File{{"user-data", bytes.Repeat([]byte("x\n"), 1<<20)}, {"vendor-data", bytes.Repeat([]byte("x"), 4<<20)}}
	d.Name = strings.Repeat("long", 100)
	d.Files = append(d.Files, File{strings.Repeat("path/", 190) + "x", []byte("x")})
	out := write(t, d)
	if n := bytes.Count(out, []byte("/Type/Page/")); n < 100 || n > 200 {
		t.Errorf("%d pages", n)
	}
}

// TestTheTableOfOffsetsIsRight looks up each object the way a reader does.
func TestTheTableOfOffsetsIsRight(t *testing.T) {
	out := write(t, document(noise(100, 13)))
	rows := regexp.MustCompile(`(?m)^(\d{10}) 00000 n $`).FindAllSubmatch(out, -1)
	if len(rows) < 10 {
		t.Fatalf("%d objects", len(rows))
	}
	for i, row := range rows {
		var at int
		fmt.Sscan(strings.TrimLeft(string(row[1]), "0"), &at)
		if want := fmt.Sprintf("%d 0 obj\n", i+1); !bytes.HasPrefix(out[at:], []byte(want)) {
			t.Errorf("object %d is not at %d", i+1, at)
		}
	}
}

// TestTheRecipeOfTheDocumentationRestores runs what docs/paper.md tells a person without applbuild.
func TestTheRecipeOfTheDocumentationRestores(t *testing.T) {
	tool(t, "python3", "python3")
	text, err := os.ReadFile("../../docs/paper.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(text, -1)
	if len(scripts) != 2 {
		t.Fatalf("%d scripts", len(scripts))
	}
	archive := noise(20*chunkSize+3, 14)
	// The first script reads pictures, the second codes of which some are lost.
	lossy := t.TempDir()
	if err := os.WriteFile(filepath.Join(lossy, "codes.txt"), scan(without(split(t, archive), 4, 11, 21)...).Text, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, dir := range []string{pages(t, write(t, document(archive))), lossy} {
		script := "set -e\nzbarimg() { command zbarimg --nodbus \"$@\" || [ $? = 4 ]; }\ntar() { :; }\ngenisoimage() { :; }\n" + string(scripts[i][1])
		cmd := exec.Command("bash", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("script %d: %v: %s", i+1, err, out)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "seed.tar.gz")); err != nil || !bytes.Equal(got, archive) {
			t.Errorf("script %d: %v", i+1, err)
		}
	}
}

func FuzzSpans(f *testing.F) {
	f.Add("a\tb\u00a0中\xff€")
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range wrap(spans(text), 10) {
			width := 0
			for _, s := range l {
				width += len(s.text)
			}
			if width > 10 {
				t.Errorf("a line of %d characters", width)
			}
		}
		for _, c := range winAnsi(text) {
			if c < ' ' || c == 0x7f || c == 0xa0 || c == 0xad {
				t.Errorf("%#x is printed", c)
			}
		}
	})
}
