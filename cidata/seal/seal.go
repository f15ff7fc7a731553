// Package seal packs the files of a seed into one archive and encrypts it for transport: to recipients of age
// (age-encryption.org/v1) or of OpenPGP (RFC 9580, in the form that GnuPG 2.2 reads).
//
// The archive is a tar (POSIX.1-2001, ustar where that is enough) in gzip (RFC 1952), the same bytes for the same
// files and the same compress/gzip. A global extended header, which tar programs skip, says which ISO was made of them. What is encrypted differs
// each time: its keys are fresh. OpenPGP takes entropy from a reader that the caller hands in; age's library offers no
// way to hand one in and takes it from crypto/rand.
//
// The package knows nothing of what the files mean and does not read or write any.
package seal

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of an archive, for those that are written as for those that are read.
const (
	MaxFiles = 4096
	MaxData  = 32 << 20 // bytes of all files together
	MaxPath  = 1000     // bytes of a path
	// MaxArchive bounds what is read to find an archive in it, in bytes: with headers, and encryption in armour.
	MaxArchive = 2*MaxData + MaxFiles*2048

	maxTar = MaxData + MaxFiles*4096
)

// A File is one file of a seed. Path is relative, with slashes, as io/fs wants it.
type File struct {
	Path string
	Data []byte
}

// A Bundle is what an archive holds.
type Bundle struct {
	Files []File
	// Time is the date of all files, to the second, and so of the ISO; zero is the first day of 1980, which the ISO has
	// by default.
	Time time.Time
	// ISOSHA256 is the digest, in hexadecimal, of the ISO that was made of the files; empty where it isn't known.
	ISOSHA256 string
}

// The key of the digest in the global header, as POSIX names those of vendors.
const isoKey = "APPLBUILD.iso.sha256"

// epoch is the date of files that have none: tar programs call 1970 implausible.
func epoch() time.Time { return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC) }

// Pack returns the archive, with the files sorted by path.
func (b Bundle) Pack() ([]byte, error) {
	if err := check(b.Files); err != nil {
		return nil, fmt.Errorf("archive of the seed: %w", err)
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	if b.ISOSHA256 != "" {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{isoKey: b.ISOSHA256}}); err != nil {
			return nil, fmt.Errorf("archive of the seed: %w", err)
		}
	}
	date := b.Time
	if date.IsZero() {
		date = epoch()
	}
	for _, f := range sorted(b.Files) {
		h := tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: 0o600, Size: int64(len(f.Data)), ModTime: date.Truncate(time.Second)}
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("archive of the seed: %s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, fmt.Errorf("archive of the seed: %s: %w", f.Path, err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return nil, fmt.Errorf("archive of the seed: %w", err)
	}
	return out.Bytes(), nil
}

func sorted(files []File) []File {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// check refuses what could not be unpacked, or not as it was.
func check(files []File) error {
	if len(files) == 0 {
		return errors.New("it holds no files")
	}
	if len(files) > MaxFiles {
		return fmt.Errorf("%d files are too many: at most %d", len(files), MaxFiles)
	}
	size, paths := 0, make(map[string]bool, len(files))
	for _, f := range files {
		if err := checkPath(f.Path); err != nil {
			return err
		}
		if paths[f.Path] {
			return fmt.Errorf("%s is in it twice", f.Path)
		}
		paths[f.Path] = true
		if size += len(f.Data); size > MaxData {
			return fmt.Errorf("its files are larger than %d MiB together", MaxData>>20)
		}
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if paths[dir] {
				return fmt.Errorf("%s is both a file and a folder", dir)
			}
		}
	}
	return nil
}

func checkPath(name string) error {
	switch {
	case !fs.ValidPath(name) || name == "." || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, `\`):
		return fmt.Errorf("%q is not a path of a file below the seed's folder", name)
	case len(name) > MaxPath:
		return fmt.Errorf("a path of %d bytes is too long: at most %d", len(name), MaxPath)
	}
	return nil
}

// Unpack reads an archive, also one that tar(1) made. All but regular files and folders is refused, as are paths that
// lead out of the seed's folder.
func Unpack(archive []byte) (Bundle, error) {
	b, err := unpack(archive)
	if err != nil {
		return Bundle{}, fmt.Errorf("archive of the seed: %w", err)
	}
	return b, nil
}

func unpack(archive []byte) (Bundle, error) {
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return Bundle{}, fmt.Errorf("not in gzip: %w", err)
	}
	data, err := readAll(z, maxTar)
	if err != nil {
		return Bundle{}, err
	}
	var b Bundle
	size := 0
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Bundle{}, err
		}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			if sum := h.PAXRecords[isoKey]; isDigest(sum) {
				b.ISOSHA256 = sum
			}
			continue
		case tar.TypeDir:
			continue
		case tar.TypeReg:
		default:
			return Bundle{}, fmt.Errorf("%q is neither a file nor a folder", h.Name)
		}
		// The size is checked before anything is read: a sparse file may claim more than the archive holds.
		if h.Size < 0 || h.Size > int64(MaxData-size) {
			return Bundle{}, fmt.Errorf("its files are larger than %d MiB together", MaxData>>20)
		}
		if len(b.Files) == MaxFiles {
			return Bundle{}, fmt.Errorf("more than %d files", MaxFiles)
		}
		text := make([]byte, h.Size)
		if _, err := io.ReadFull(r, text); err != nil {
			return Bundle{}, fmt.Errorf("%q: %w", h.Name, err)
		}
		size += len(text)
		if date := h.ModTime.Truncate(time.Second).UTC(); date.After(b.Time) {
			b.Time = date
		}
		b.Files = append(b.Files, File{strings.TrimPrefix(h.Name, "./"), text})
	}
	if err := check(b.Files); err != nil {
		return Bundle{}, err
	}
	b.Files = sorted(b.Files)
	return b, nil
}

func isDigest(sum string) bool {
	return len(sum) == 64 && strings.Trim(sum, "0123456789abcdef") == ""
}

// readAll reads at most limit bytes; more are an error.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it holds more than %d MiB", limit>>20)
	}
	return data, nil
}

// A Form is how an archive is wrapped.
type Form int

// The forms that FormOf tells apart.
const (
	Unknown Form = iota
	Plain        // gzip
	Age          // binary or in PEM armour
	OpenPGP      // binary or in ASCII armour
)

// FormOf looks at the first bytes of data.
func FormOf(data []byte) Form {
	text := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		return Plain
	case bytes.HasPrefix(data, []byte(ageIntro)), bytes.HasPrefix(text, []byte(ageArmor)):
		return Age
	case bytes.HasPrefix(text, []byte(pgpArmor)), isPGPMessage(data):
		return OpenPGP
	}
	return Unknown
}
