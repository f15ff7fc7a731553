package resolve

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchIndex is an index of the size of trixie's: 70,000 packages with six
// relations each, most of them to a few hundred libraries.
func benchIndex() []byte {
	rng := rand.New(rand.NewPCG(1, 1))
	var b bytes.Buffer
	for i := range 70000 {
		fmt.Fprintf(&b, "Package: package-number-%d\nSource: source-%d (1.%d-1)\nVersion: 1.%d-1+b1\nInstalled-Size: %d\nMaintainer: Somebody at Large <somebody@example.org>\nArchitecture: amd64\n", i, i/3, i%50, i%50, 100+i%9000)
		b.WriteString("Depends: ")
		for j := range 5 {
			if j > 0 {
				b.WriteString(", ")
			}
			n := rng.IntN(300)
			if j == 4 {
				n = rng.IntN(i + 1)
			}
			fmt.Fprintf(&b, "package-number-%d (>= 1.%d)", min(n, i), 0)
		}
		fmt.Fprintf(&b, "\nSuggests: package-number-%d | virtual-%d\nDescription: one of many packages that stand for what an index has\nHomepage: https://example.org/%d\nDescription-md5: 0123456789abcdef0123456789abcdef\nTag: implemented-in::c, role::program, scope::utility, works-with::file\nSection: utils\nPriority: optional\nFilename: pool/main/p/package/package-number-%d_1.%d-1+b1_amd64.deb\nSize: %d\nMD5sum: 0123456789abcdef0123456789abcdef\nSHA256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n", i/2, i%500, i, i, i%50, 1000+i)
		if i%10 == 0 {
			fmt.Fprintf(&b, "Provides: virtual-%d\n", i%500)
		}
		b.WriteString("\n")
	}
	return b.Bytes()
}

func BenchmarkReadPackages(b *testing.B) {
	text := benchIndex()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadPackages(bytes.NewReader(text), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewUniverse(b *testing.B) {
	pkgs, err := ReadPackages(bytes.NewReader(benchIndex()), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		NewUniverse("amd64", pkgs)
	}
}

func BenchmarkResolve(b *testing.B) {
	pkgs, err := ReadPackages(bytes.NewReader(benchIndex()), nil)
	if err != nil {
		b.Fatal(err)
	}
	u := NewUniverse("amd64", pkgs)
	req := Request{Names: []string{"package-number-60000", "package-number-61000", "package-number-62000"}}
	b.ReportAllocs()
	for b.Loop() {
		got, err := u.Resolve(req)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(got)), "packages")
	}
}

func BenchmarkNearestName(b *testing.B) {
	pkgs, err := ReadPackages(bytes.NewReader(benchIndex()), nil)
	if err != nil {
		b.Fatal(err)
	}
	u := NewUniverse("amd64", pkgs)
	for b.Loop() {
		if _, err := u.Resolve(Request{Names: []string{"pakcage-number-6000x"}}); err == nil {
			b.Fatal("the name is known")
		}
	}
}
