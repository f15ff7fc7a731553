package layout

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
)

// A Named is an image with the full name that it is to be found by, such as
// registry.example.com/web:1.4. One image may come under several names.
type Named struct {
	Name  string
	Image *containers.Image
}

// An Opener opens the blob of a layer. Whoever calls it closes what it returns.
type Opener func(ctx context.Context, digest containers.Digest) (io.ReadCloser, error)

// A content is a file of a layout or an archive.
type content struct {
	size   int64
	data   []byte            // of a file in memory
	digest containers.Digest // of a file that is opened
	open   func(ctx context.Context) (io.ReadCloser, error)
}

func inMemory(data []byte) content { return content{size: int64(len(data)), data: data} }

// copyTo writes a file's bytes, checked.
func (c content) copyTo(ctx context.Context, w io.Writer) error {
	if c.open == nil {
		_, err := w.Write(c.data)
		return err
	}
	in, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(w, newVerifier(io.LimitReader(contextReader{ctx, in}, c.size), c.digest))
	if err == nil && n != c.size {
		err = fmt.Errorf("%s: %d bytes, %d are said", c.digest, n, c.size)
	}
	return err
}

// WriteFolder writes a layout into the folder dir, which is there and empty.
// Everything in it is dated with the clock. What it has written when it fails
// stays.
func WriteFolder(ctx context.Context, dir string, images []Named, open Opener, clock time.Time) error {
	all, err := layoutContents(images, open)
	if err != nil {
		return err
	}
	blobs := filepath.Join(dir, filepath.FromSlash(blobFolder))
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := writeFile(ctx, filepath.Join(dir, filepath.FromSlash(name)), all[name], clock); err != nil {
			return fmt.Errorf("layout: %s: %w", name, err)
		}
	}
	for _, name := range []string{blobs, filepath.Dir(blobs), dir} {
		if err := os.Chtimes(name, clock, clock); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(ctx context.Context, name string, c content, clock time.Time) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = c.copyTo(ctx, f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Chtimes(name, clock, clock)
}

// WriteArchive writes a layout as a tar archive, which is what is called an
// oci-archive. It is a docker-archive at the same time, so that `docker load`
// takes it, too: both refer to the same blobs.
func WriteArchive(ctx context.Context, w io.Writer, images []Named, open Opener, clock time.Time) error {
	all, err := layoutContents(images, open)
	if err != nil {
		return err
	}
	entries := dockerEntries(images, func(img *containers.Image) string { return blobName(img.ID) },
		func(l containers.Layer) string { return blobName(l.Digest) })
	if err := addJSON(all, fileManifest, entries); err != nil {
		return err
	}
	return writeTar(ctx, w, []string{"blobs/", blobFolder}, all, clock)
}

// WriteDocker writes a docker-archive with unpacked layers, as `docker save`
// and skopeo do: for what reads nothing newer. Compressed layers are read
// twice.
func WriteDocker(ctx context.Context, w io.Writer, images []Named, open Opener, clock time.Time) error {
	config := func(img *containers.Image) string { return img.ID.Hex() + ".json" }
	layer := func(l containers.Layer) string { return l.DiffID.Hex() + ".tar" }
	all := map[string]content{}
	for _, named := range images {
		all[config(named.Image)] = inMemory(named.Image.Config)
		for _, l := range named.Image.Layers {
			if _, there := all[layer(l)]; there {
				continue
			}
			c, err := plainLayer(ctx, l, open)
			if err != nil {
				return fmt.Errorf("layer %s: %w", l.Digest, err)
			}
			all[layer(l)] = c
		}
	}
	if err := addJSON(all, fileManifest, dockerEntries(images, config, layer)); err != nil {
		return err
	}
	return writeTar(ctx, w, nil, all, clock)
}

// plainLayer is the content of a layer when it is unpacked.
func plainLayer(ctx context.Context, l containers.Layer, open Opener) (content, error) {
	c := content{digest: l.DiffID, open: func(ctx context.Context) (io.ReadCloser, error) {
		in, err := open(ctx, l.Digest)
		if err != nil {
			return nil, err
		}
		plain, _, err := decompress(in)
		if err != nil {
			in.Close()
			return nil, err
		}
		return both{plain, in}, nil
	}}
	in, err := c.open(ctx)
	if err != nil {
		return content{}, err
	}
	defer in.Close()
	c.size, err = unpackedSize(ctx, in, l.DiffID)
	return c, err
}

// both closes what unpacks and what is unpacked.
type both struct {
	io.ReadCloser
	under io.Closer
}

func (b both) Close() error { return cmp.Or(b.ReadCloser.Close(), b.under.Close()) }

// layoutContents are the files of a layout by name.
func layoutContents(images []Named, open Opener) (map[string]content, error) {
	all := map[string]content{fileLayout: inMemory([]byte(`{"imageLayoutVersion":"1.0.0"}`))}
	doc := indexDocument{SchemaVersion: 2, MediaType: containers.TypeOCIIndex, Manifests: []descriptor{}}
	for _, named := range images {
		img := named.Image
		all[blobName(img.Digest)] = inMemory(img.Manifest)
		all[blobName(img.ID)] = inMemory(img.Config)
		for _, l := range img.Layers {
			all[blobName(l.Digest)] = content{size: l.Size, digest: l.Digest, open: func(ctx context.Context) (io.ReadCloser, error) {
				return open(ctx, l.Digest)
			}}
		}
		d := descriptor{
			MediaType: img.MediaType, Digest: string(img.Digest), Size: int64(len(img.Manifest)),
			Platform: &platform{img.Platform.Architecture, img.Platform.OS, img.Platform.Variant},
		}
		if named.Name != "" {
			// skopeo finds an image by the first as it was asked for, containerd by
			// the second in full.
			d.Annotations = map[string]string{annotationName: named.Name, annotationContainerd: fullName(named.Name)}
		}
		doc.Manifests = append(doc.Manifests, d)
	}
	slices.SortStableFunc(doc.Manifests, func(a, b descriptor) int {
		return cmp.Or(strings.Compare(a.Annotations[annotationName], b.Annotations[annotationName]), strings.Compare(a.Digest, b.Digest))
	})
	return all, addJSON(all, fileIndex, doc)
}

func addJSON(all map[string]content, name string, value any) error {
	data, err := json.Marshal(value)
	all[name] = inMemory(data)
	return err
}

// dockerEntries are the items of manifest.json, one for each image with all its
// names, sorted by the first of them.
func dockerEntries(images []Named, config func(*containers.Image) string, layer func(containers.Layer) string) []dockerEntry {
	byID := map[containers.Digest]*dockerEntry{}
	for _, named := range images {
		e := byID[named.Image.ID]
		if e == nil {
			e = &dockerEntry{Config: config(named.Image), RepoTags: []string{}}
			for _, l := range named.Image.Layers {
				e.Layers = append(e.Layers, layer(l))
			}
			byID[named.Image.ID] = e
		}
		// docker takes names with a tag, not those by digest.
		if _, _, tagged := cutTag(named.Name); tagged && !slices.Contains(e.RepoTags, named.Name) {
			e.RepoTags = append(e.RepoTags, named.Name)
		}
	}
	entries := []dockerEntry{}
	for _, e := range byID {
		slices.Sort(e.RepoTags)
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b dockerEntry) int {
		return cmp.Or(slices.Compare(a.RepoTags, b.RepoTags), strings.Compare(a.Config, b.Config))
	})
	return entries
}

// writeTar writes folders and files, sorted, all root's and of one time.
func writeTar(ctx context.Context, w io.Writer, folders []string, all map[string]content, clock time.Time) error {
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(slices.Values(slices.AppendSeq(folders, maps.Keys(all)))) {
		c := all[name]
		h := &tar.Header{Name: name, Mode: 0o644, Size: c.size, ModTime: clock.UTC().Truncate(time.Second), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if c.size >= 8<<30 {
			h.Format = tar.FormatPAX // a ustar header holds no such size
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("archive: %s: %w", name, err)
		}
		if err := c.copyTo(ctx, tw); err != nil {
			return fmt.Errorf("archive: %s: %w", name, err)
		}
	}
	return tw.Close()
}
