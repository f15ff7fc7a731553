package archive

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// A digest is one line of a Release file's SHA256 field.
type digest struct {
	size   int64
	sha256 string
}

// A releaseFile is a parsed Release file.
type releaseFile struct {
	Release
	byHash bool // Acquire-By-Hash
	// allApart: packages of architecture all are in binary-all, not in the
	// index of each architecture.
	allApart bool
	files    map[string]digest // by path below dists/SUITE
}

// maxFiles bounds the files one Release names.
const maxFiles = 200_000

// parseRelease reads the verified text of a Release file.
func parseRelease(text []byte) (*releaseFile, error) {
	r := deb822.NewReader(bytes.NewReader(text))
	p, err := r.Next()
	if err == io.EOF {
		return nil, fmt.Errorf("the file is empty")
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.Next(); err != io.EOF {
		return nil, fmt.Errorf("there is more than one paragraph")
	}
	f := &releaseFile{Release: Release{
		Suite:                p.Get("Suite"),
		Codename:             p.Get("Codename"),
		Origin:               p.Get("Origin"),
		Label:                p.Get("Label"),
		Version:              p.Get("Version"),
		Components:           strings.Fields(p.Get("Components")),
		Architectures:        strings.Fields(p.Get("Architectures")),
		NotAutomatic:         yes(p.Get("NotAutomatic")),
		ButAutomaticUpgrades: yes(p.Get("ButAutomaticUpgrades")),
	}}
	if f.Date, err = parseDate(p.Get("Date")); err != nil {
		return nil, fmt.Errorf("its Date: %w", err)
	}
	if v, ok := p.Lookup("Valid-Until"); ok {
		if f.ValidUntil, err = parseDate(v); err != nil {
			return nil, fmt.Errorf("its Valid-Until: %w", err)
		}
	}
	f.byHash = yes(p.Get("Acquire-By-Hash"))
	for _, a := range f.Architectures {
		if a == "all" && !strings.Contains(" "+p.Get("No-Support-for-Architecture-all")+" ", " Packages ") {
			f.allApart = true
		}
	}
	list, ok := p.Lookup("SHA256")
	if !ok {
		return nil, fmt.Errorf("it names no SHA256 digests; MD5 and SHA-1 are not trusted")
	}
	f.files, err = parseDigests(list)
	return f, err
}

// parseDigests reads the lines of a digest field: digest, size, path.
func parseDigests(list string) (map[string]digest, error) {
	files := make(map[string]digest, strings.Count(list, "\n"))
	for line := range strings.SplitSeq(list, "\n") {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		if len(w) != 3 {
			return nil, fmt.Errorf("SHA256: %q is not a digest, a size and a path", line)
		}
		size, err := strconv.ParseInt(w[1], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("SHA256: %q has no size", line)
		}
		if !isDigest(w[0]) {
			return nil, fmt.Errorf("SHA256: %q has no SHA-256 digest", line)
		}
		if len(files) == maxFiles {
			return nil, fmt.Errorf("SHA256: more than %d files", maxFiles)
		}
		files[w[2]] = digest{size, strings.ToLower(w[0])}
	}
	return files, nil
}

// isDigest reports whether s is a SHA-256 digest in hexadecimal.
func isDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// The forms dates have in Release files: RFC 1123 in UTC, the zone as a name or
// number, the hour of Ubuntu's padded by a blank.
var dateForms = []string{
	"Mon, _2 Jan 2006 15:04:05 MST",
	"Mon, _2 Jan 2006 15:04:05 -0700",
	"Mon Jan _2 15:04:05 2006",
}

func parseDate(s string) (time.Time, error) {
	// Fields are joined anew so that a padded hour becomes one digit.
	w := strings.Fields(s)
	for i, x := range w {
		if len(x) > 1 && x[1] == ':' {
			w[i] = "0" + x
		}
	}
	s = strings.Join(w, " ")
	if s == "" {
		return time.Time{}, fmt.Errorf("there is none")
	}
	for _, form := range dateForms {
		t, err := time.Parse(form, s)
		if err != nil {
			continue
		}
		if zone, offset := t.Zone(); offset == 0 && zone != "UTC" && zone != "GMT" && zone != "" && zone != "Z" {
			continue // a zone's abbreviation that says nothing about its offset
		}
		return t.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is no date in UTC", s)
}

func yes(s string) bool { return strings.EqualFold(s, "yes") }

// serves reports whether the Release is that of the suite asked for, under its
// codename or its suite name. Ubuntu's pockets all carry the codename of their
// release, so a codename counts only where the Suite is not that of a pocket.
func (r *Release) serves(suite string) bool {
	if r.Suite == suite {
		return true
	}
	return r.Codename == suite && (r.Suite == "" || !strings.HasPrefix(r.Suite, r.Codename+"-"))
}

// checkDates compares the Release's dates with now.
func (r *Release) checkDates(url string, s Source, now time.Time) error {
	if !s.IgnoreDate && r.Date.After(now.Add(24*time.Hour)) {
		return &Error{URL: url, Kind: ErrFuture, Detail: "it is of " + r.Date.Format(time.RFC1123) + ", it is now " + now.UTC().Format(time.RFC1123), Do: "check this machine's clock"}
	}
	if !s.IgnoreValidUntil && !s.IgnoreDate && !r.ValidUntil.IsZero() && now.After(r.ValidUntil) {
		return &Error{URL: url, Kind: ErrExpired, Detail: "valid until " + r.ValidUntil.Format(time.RFC1123) + ", it is now " + now.UTC().Format(time.RFC1123), Do: "use a mirror that is up to date, or a snapshot"}
	}
	return nil
}

// checkSource finds what the source asks for and the Release does not have.
func (f *releaseFile) checkSource(url string, s Source) error {
	if !f.serves(s.Suite) {
		return &Error{URL: url, Kind: ErrSuite, Detail: fmt.Sprintf("%q was asked for, the archive answers with suite %q, codename %q", s.Suite, f.Suite, f.Codename), Do: "correct the suite or the mirror"}
	}
	for _, c := range s.Components {
		if !f.hasComponent(c) {
			return &Error{URL: url, Kind: ErrRelease, Detail: fmt.Sprintf("it has no component %q", c), Do: "use some of " + strings.Join(f.Components, ", ")}
		}
	}
	return nil
}

// hasComponent knows that Debian's security archive calls main updates/main in
// this list, although its path is main.
func (f *releaseFile) hasComponent(c string) bool {
	for _, have := range f.Components {
		if have == c || strings.HasSuffix(have, "/"+c) {
			return true
		}
	}
	return false
}
