package paper

import (
	"bytes"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// noise is an archive that nothing compresses, the same each time.
func noise(size int, seed byte) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func split(t testing.TB, archive []byte) []Code {
	t.Helper()
	codes, err := Split(archive)
	if err != nil {
		t.Fatal(err)
	}
	return codes
}

// scan is the text of codes, one a line, named after the test's file.
func scan(codes ...Code) Scan {
	var lines []string
	for _, c := range codes {
		lines = append(lines, c.Text)
	}
	return Scan{"codes.txt", []byte(strings.Join(lines, "\n") + "\n")}
}

// without leaves out codes by their numbers; spare ones are below zero.
func without(codes []Code, numbers ...int) []Code {
	return slices.DeleteFunc(slices.Clone(codes), func(c Code) bool {
		n := c.Number
		if c.Spare {
			n = -n
		}
		return slices.Contains(numbers, n)
	})
}

func TestCodesOfEverySizeAreJoinedInAnyOrder(t *testing.T) {
	shuffle := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 4, 5, 6, 100, 764, 765, 766, 1529, 1530, 1531, 6120, 16 << 10, 60 << 10, MaxSize} {
		archive := noise(size, 1)
		codes := split(t, archive)
		total := codes[0].Total
		if total > (size+chunkSize-1)/chunkSize || len(codes) != total+spares(total) {
			t.Errorf("%d bytes in %d codes of %d", size, total, len(codes))
		}
		for _, c := range codes {
			if len(c.Text) > 1326 {
				t.Errorf("%d bytes: a code of %d characters", size, len(c.Text))
			}
		}
		shuffle.Shuffle(len(codes), func(i, j int) { codes[i], codes[j] = codes[j], codes[i] })
		if got, err := Join(scan(codes...)); err != nil || !bytes.Equal(got, archive) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if got, err := Join(scan(slices.DeleteFunc(codes, func(c Code) bool { return c.Spare })...)); err != nil || !bytes.Equal(got, archive) {
			t.Errorf("%d bytes without spare codes: %v", size, err)
		}
	}
}

func TestAnArchiveThatIsTooLargeForPaperIsRefused(t *testing.T) {
	var e *SizeError
	if _, err := Split(make([]byte, MaxSize+1)); !errors.As(err, &e) {
		t.Errorf("Split: %v", err)
	}
	if _, err := Split(nil); err == nil {
		t.Error("nothing is split")
	}
}

func TestWhatScannersDoToTextIsTolerated(t *testing.T) {
	archive := noise(3000, 2)
	codes := split(t, archive)
	text := string(scan(codes...).Text)
	rewrap := func(sep string, every int) string {
		var b strings.Builder
		for i, r := range text {
			if i > 0 && i%every == 0 {
				b.WriteString(sep)
			}
			b.WriteRune(r)
		}
		return b.String()
	}
	wide := func() string {
		var b strings.Builder
		b.WriteString("\xff\xfe")
		for _, r := range text {
			b.WriteString(string(r) + "\x00")
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"blanks":                    rewrap(" ", 7),
		"line breaks":               rewrap("\r\n", 76),
		"no line breaks":            strings.ReplaceAll(text, "\n", ""),
		"duplicates":                text + text,
		"prefixes":                  strings.ReplaceAll(text, "APPL", "QR-Code:APPL"),
		"a list with remarks":       "Scanned on Monday\n" + strings.ReplaceAll(text, "\n", "\t2026-01-02 ok\n") + "end\n",
		"lower case":                strings.ToLower(text),
		"UTF-16":                    wide(),
		"a byte order mark":         "\ufeff" + text,
		"blanks that do not break":  rewrap("\u00a0", 11),
		"a damaged copy of a code":  text + strings.Replace(codes[1].Text, "A", "B", 3) + "\n",
		"a beginning of a code":     codes[0].Text[:50] + text,
		"a code of a spare's twice": text + codes[len(codes)-1].Text,
	} {
		if got, err := Join(Scan{name, []byte(text)}); err != nil || !bytes.Equal(got, archive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := Join(scan(codes[2:]...), scan(codes[:2]...)); err != nil || !bytes.Equal(got, archive) {
		t.Errorf("two files: %v", err)
	}
}

func TestMissingAndDamagedCodesAreNamed(t *testing.T) {
	codes := split(t, noise(12*chunkSize, 3))
	damage := func(n int, text string) []Code {
		out := slices.Clone(codes)
		out[n-1].Text = text
		return out
	}
	// Spare code 1 stands for the codes with odd numbers, 2 for the others.
	for _, test := range []struct {
		name  string
		codes []Code
		want  string
	}{
		{"one is missing", without(codes, 3), ""},
		{"one of each half", without(codes, 3, 4), ""},
		{"the last", without(codes, 12), ""},
		{"two of a half", without(codes, 3, 7), "codes 3 and 7 of 12 are missing: scan these again"},
		{"two of a half, and one", without(codes, 3, 4, 7), "codes 3 and 7 of 12 are missing: scan these again"},
		{"one, and its spare", without(codes, 3, -1), "code 3 of 12 is missing: scan these again"},
		{"one, and the other's spare", without(codes, 3, -2), ""},
		{"no spare ones", without(codes, 1, 2, 3, 4, 9, 12, -1, -2), "codes 1 to 4, 9 and 12 of 12 are missing: scan these again"},
		{"all but the last", codes[11:12], "codes 1 to 11 of 12 are missing: scan these again"},
		{"damaged", damage(5, strings.Replace(codes[4].Text, "/12", "/12 ", 1)), ""},
		{"damaged, with its spare", damage(5, strings.Replace(codes[4].Text, "A", "B", 1)), ""},
		{"damaged, without its spare", without(damage(5, codes[4].Text[:len(codes[4].Text)-8]+"01234567"), -1), "code 5 of 12 is damaged (codes.txt:5: its checksum is 01234567, its text has " + codes[4].Text[len(codes[4].Text)-8:] + "): scan these again"},
		{"cut short", without(damage(5, codes[4].Text[:300]), -1), "code 5 of 12 is damaged (codes.txt:5: its text is not whole): scan these again"},
		{"cut short early", without(damage(5, codes[4].Text[:30]), -1), "code 5 of 12 is missing; a code is damaged (codes.txt:5: its text is not whole): scan these again"},
		{"a newer format", damage(5, strings.Replace(codes[4].Text, "APPLSEED1", "APPLSEED2", 1)), "codes.txt:5: a code of format 2, this applbuild reads format 1: use a newer one"},
		{"nothing", nil, "codes.txt: no codes of a seed: each begins with APPLSEED1"},
		{"all damaged", []Code{{Text: "APPLSEED1:12"}}, "a code is damaged (codes.txt:1: its text is not whole): scan these again"},
	} {
		_, err := Join(scan(test.codes...))
		if got := fmt.Sprint(err); got != test.want && (err != nil || test.want != "") {
			t.Errorf("%s:\n%s, want\n%s", test.name, got, test.want)
		}
	}
	var missing *MissingError
	if _, err := Join(scan(without(codes, 3, 7)...)); !errors.As(err, &missing) || !slices.Equal(missing.Missing, []int{3, 7}) {
		t.Errorf("%v", err)
	}
	if _, err := Join(scan()); !errors.Is(err, ErrNoCodes) {
		t.Errorf("%v", err)
	}
}

func TestAWholePageOfCodesMayBeLostWhereThereAreManySpareOnes(t *testing.T) {
	archive := noise(96*chunkSize, 4)
	codes := split(t, archive)
	got, err := Join(scan(slices.Concat(codes[:24], codes[36:])...))
	if err != nil || !bytes.Equal(got, archive) {
		t.Error(err)
	}
}

func TestCodesOfTwoSeedsAreNotMixed(t *testing.T) {
	one, two := split(t, noise(3000, 5)), split(t, noise(3000, 6))
	var mixed *MixedError
	_, err := Join(scan(one...), Scan{"other.txt", scan(two[1:2]...).Text})
	if !errors.As(err, &mixed) || len(mixed.SHA256) != 2 || mixed.Where[1] != "other.txt:1" {
		t.Errorf("Join: %v", err)
	}
}

// forge makes a code with the right checksum that says whatever it is told.
func forge(fields string, payload []byte) Code {
	s := fields + ":" + strings.ReplaceAll(base32.StdEncoding.EncodeToString(payload), "=", "-")
	return Code{Text: fmt.Sprintf("%s:%08X", s, crc32.ChecksumIEEE([]byte(s)))}
}

func TestForgedCodesAreRefused(t *testing.T) {
	codes := split(t, noise(3000, 7))
	sum := strings.Split(codes[0].Text, ":")[1]
	for _, test := range []struct {
		name string
		scan Scan
		want string
	}{
		{"another total", scan(append(codes, forge("APPLSEED1:"+sum+":5/5:3000", make([]byte, 600)))...), "forged"},
		{"another size", scan(append(codes, forge("APPLSEED1:"+sum+":4/4:2999", make([]byte, 750)))...), "forged"},
		{"other contents", scan(append(codes, forge("APPLSEED1:"+sum+":2/4:3000", make([]byte, 750)))...), "other contents"},
		{"another length", scan(append(without(codes, 2), forge("APPLSEED1:"+sum+":2/4:3000", make([]byte, 755)))...), "do not fit"},
		{"a short spare", scan(append(without(codes, 2, -1), forge("APPLSEED1:"+sum+":S1/4:3000", make([]byte, 5)))...), "contradicts"},
		{"contents in place of a code", scan(append(without(codes, 2), forge("APPLSEED1:"+sum+":2/4:3000", make([]byte, 750)))...), "SHA-256"},
		{"a spare of nothing", scan(append(without(codes, 2, -1), forge("APPLSEED1:"+sum+":S1/4:3000", make([]byte, 750)))...), "SHA-256"},
		{"number 0", scan(forge("APPLSEED1:"+sum+":0/4:3000", make([]byte, 750))), "contradicts"},
		{"number beyond the total", scan(forge("APPLSEED1:"+sum+":5/4:3000", make([]byte, 750))), "contradicts"},
		{"a spare beyond the total", scan(forge("APPLSEED1:"+sum+":S2/4:3000", make([]byte, 750))), "contradicts"},
		{"a huge size", scan(forge("APPLSEED1:"+sum+":1/999:9999999", make([]byte, 5))), "contradicts"},
		{"no bytes", scan(forge("APPLSEED1:"+sum+":1/1:0", make([]byte, 5))), "contradicts"},
		{"wrong base32", scan(Code{Text: forge("APPLSEED1:"+sum+":1/1:5:A", nil).Text}), "damaged"},
		{"a spare only, too long", scan(forge("APPLSEED1:"+sum+":S1/1:5", make([]byte, 10))), "SHA-256"},
		{"a spare only, too short", scan(forge("APPLSEED1:"+sum+":S1/1:15", make([]byte, 10))), "contradicts"},
	} {
		_, err := Join(test.scan)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}

func FuzzJoin(f *testing.F) {
	codes := split(f, noise(3000, 8))
	f.Add(scan(codes...).Text)
	f.Add(scan(without(codes, 2)...).Text)
	f.Add(scan(forge("APPLSEED1:"+strings.Repeat("0", 64)+":S1/9:45", make([]byte, 5))).Text)
	f.Fuzz(func(t *testing.T, text []byte) {
		archive, err := Join(Scan{"a", text})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		if len(archive) == 0 || len(archive) > len(text) {
			t.Errorf("%d bytes out of %d characters", len(archive), len(text))
		}
	})
}

// FuzzForged puts codes with right checksums together that contradict each other.
func FuzzForged(f *testing.F) {
	f.Add([]byte{1, 4, 0, 5, 2, 4, 0, 5}, uint16(20))
	f.Fuzz(func(t *testing.T, plan []byte, size uint16) {
		var codes []Code
		for p := range slices.Chunk(plan, 4) {
			if len(p) < 4 {
				break
			}
			number := fmt.Sprint(p[0])
			if p[2] > 127 {
				number = "S" + number
			}
			codes = append(codes, forge(fmt.Sprintf("APPLSEED1:%064d:%s/%d:%d", 0, number, p[1], size), make([]byte, p[3])))
		}
		if _, err := Join(scan(codes...)); err == nil {
			t.Error("forged codes are joined")
		}
	})
}
