package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/applbuild/applbuild/rootfs/xz"
)

// maxWindow bounds the memory a compressed index may ask for, in bytes.
const maxWindow = 128 << 20

// forms are the compressions of an index, the preferred first.
var forms = []struct {
	ext  string
	open func(io.Reader) (io.Reader, func(), error)
}{
	{".zst", func(r io.Reader) (io.Reader, func(), error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return d, d.Close, nil
	}},
	{".xz", func(r io.Reader) (io.Reader, func(), error) {
		d, err := xz.NewReader(r, xz.MaxDictionary(maxWindow))
		return d, func() {}, err
	}},
	{".gz", func(r io.Reader) (io.Reader, func(), error) {
		d, err := gzip.NewReader(r)
		return d, func() {}, err
	}},
	{"", func(r io.Reader) (io.Reader, func(), error) { return r, func() {}, nil }},
}

// A wanted index is one Packages file that a source needs.
type wanted struct {
	component, arch string
	path            string // of the plain form, below dists/SUITE
	plain           digest
}

// indexes lists the Packages files the source needs.
func (f *releaseFile) indexes(url string, s Source) ([]wanted, error) {
	arches := []string{s.Arch}
	if f.allApart {
		arches = append(arches, "all")
	}
	var list []wanted
	for _, component := range s.Components {
		for _, arch := range arches {
			// The security archive calls a component updates/main, but its
			// path is main.
			path := strings.TrimPrefix(component, "updates/") + "/binary-" + arch + "/Packages"
			plain, ok := f.files[path]
			if !ok && arch == "all" {
				continue // announced, but this component has none
			}
			if !ok {
				return nil, &Error{URL: url, Kind: ErrRelease, Detail: fmt.Sprintf("it has no %s", path), Do: "its architectures are " + strings.Join(f.Architectures, ", ")}
			}
			list = append(list, wanted{component, arch, path, plain})
		}
	}
	return list, nil
}

// index brings one index into dir, or finds it there.
func (c *Client) index(ctx context.Context, f *releaseFile, s Source, dir string, w wanted) (Index, error) {
	x := Index{Source: s, Release: &f.Release, Component: w.component, Arch: w.arch, SHA256: w.plain.sha256, Size: w.plain.size,
		path: filepath.Join(dir, w.plain.sha256+".Packages")}
	name := s.Suite + "/" + w.component + "/" + w.arch
	url := join(s.URI, "dists/"+s.Suite+"/"+w.path)
	if err := verifyFile(x.path, x.SHA256, x.Size); err == nil {
		c.tell(Event{Class: ClassIndex, Name: name, URL: redact(url), Bytes: x.Size, Total: x.Size, Done: true, Cached: true})
		return x, nil
	}
	if c.Offline {
		return Index{}, &Error{URL: redact(url), Kind: ErrOffline, Detail: "the index " + name, Do: doFetch}
	}
	if w.plain.size == 0 {
		return x, writeFile(x.path, nil)
	}
	var failed error // of the first form that could not be had
	for _, form := range forms {
		packed, ok := f.files[w.path+form.ext]
		if !ok {
			continue
		}
		t := &transfer{class: ClassIndex, name: name, dest: filepath.Join(dir, packed.sha256+form.ext+".index"), size: packed.size, sha256: packed.sha256,
			stale: "the mirror is being updated, or is damaged: try again later, or use another mirror"}
		if f.byHash {
			i := strings.LastIndexByte(w.path, '/')
			t.urls = append(t.urls, join(s.URI, "dists/"+s.Suite+"/"+w.path[:i]+"/by-hash/SHA256/"+packed.sha256))
		}
		t.urls = append(t.urls, url+form.ext)
		err := c.fetch(ctx, t)
		if err == nil {
			err = decompress(t.dest, x, form.open)
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDigest) {
			return x, err
		}
		if failed == nil || errors.Is(failed, ErrNotFound) {
			failed = err
		}
	}
	if failed == nil {
		failed = &Error{URL: redact(url), Kind: ErrRelease, Detail: "no form of this index is listed that can be read", Do: "use another mirror"}
	}
	return Index{}, failed
}

// decompress turns a fetched index into its plain form, whose size and digest
// are checked, and removes the fetched one.
func decompress(packed string, x Index, open func(io.Reader) (io.Reader, func(), error)) error {
	in, err := os.Open(packed)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	defer os.Remove(packed)
	defer in.Close()
	bad := func(err error, detail string) error {
		return &Error{URL: x.Source.String() + " " + filepath.Base(packed), Kind: ErrDigest, Detail: detail, Err: err, Do: "use another mirror"}
	}
	r, done, err := open(in)
	if err != nil {
		return bad(err, "the index cannot be decompressed")
	}
	defer done()
	out, err := os.CreateTemp(filepath.Dir(x.path), ".index-*")
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	h := sha256.New()
	var tooLong bool
	n, err := io.CopyBuffer(io.MultiWriter(onlyWriter{out}, h), onlyReader{io.LimitReader(r, x.Size+1)}, make([]byte, 1<<20))
	tooLong = n > x.Size
	var pathErr *fs.PathError
	switch {
	case errors.As(err, &pathErr):
		return fmt.Errorf("cache: %w", err)
	case err != nil:
		return bad(err, "the index cannot be decompressed")
	case tooLong || n < x.Size:
		return bad(nil, fmt.Sprintf("the decompressed index does not have the %d bytes promised", x.Size))
	case hex.EncodeToString(h.Sum(nil)) != x.SHA256:
		return bad(nil, "the decompressed index is not the one promised")
	}
	if err := out.Chmod(0o644); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	if err := os.Rename(out.Name(), x.path); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// onlyReader and onlyWriter hide other methods, so that io.CopyBuffer uses its
// buffer.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }
