package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"

	"github.com/applbuild/applbuild/builder/containers"
)

// The documents of a layout, as far as they are read here.
type (
	descriptor struct {
		MediaType    string            `json:"mediaType"`
		ArtifactType string            `json:"artifactType,omitempty"`
		Digest       string            `json:"digest"`
		Size         int64             `json:"size"`
		Annotations  map[string]string `json:"annotations,omitempty"`
		Platform     *platform         `json:"platform,omitempty"`
	}
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Variant      string `json:"variant,omitempty"`
	}
	indexDocument struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType,omitempty"`
		Manifests     []descriptor `json:"manifests"`
	}
)

// maxNesting is how deep indexes may lie in one another.
const maxNesting = 4

// has says whether there is a regular file of that name.
func (f *File) has(name string) bool {
	in, _, err := f.files.open(name)
	if err != nil {
		return false
	}
	in.Close()
	return true
}

// document reads a file of at most limit bytes whole.
func (f *File) document(name string, limit int64) ([]byte, error) {
	in, size, err := f.files.open(name)
	if err != nil {
		return nil, missing(name, err)
	}
	defer in.Close()
	if size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, %d are allowed", containers.ErrFormat, name, size, limit)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// missing says of a file that isn't there that the image is not whole.
func missing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing: %w", containers.ErrFormat, name, err)
	}
	return err
}

// blob reads a small blob whole and checks it.
func (f *File) blob(d descriptor) ([]byte, error) {
	digest, err := containers.ParseDigest(d.Digest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", containers.ErrFormat, err)
	}
	data, err := f.document(blobName(digest), containers.MaxDocument)
	if err != nil {
		return nil, err
	}
	if got := containers.DigestOf(data); got != digest {
		return nil, fmt.Errorf("%w: the blob %s holds %s", containers.ErrFormat, digest, got)
	}
	if d.Size != int64(len(data)) {
		return nil, fmt.Errorf("%w: the blob %s has %d bytes, %d are said", containers.ErrFormat, digest, len(data), d.Size)
	}
	return data, nil
}

// readLayout reads index.json and what it leads to.
func (f *File) readLayout() ([]Found, error) {
	data, err := f.document(fileIndex, containers.MaxDocument)
	if err != nil {
		return nil, err
	}
	r := layoutReader{file: f, seen: map[string]int{}}
	if f.entries, err = r.index(data, nil, 0); err != nil {
		return nil, err
	}
	return r.images, nil
}

type layoutReader struct {
	file   *File
	images []Found
	seen   map[string]int // manifests by digest: their place among images, or -1
	read   int            // documents
}

// index reads an index and returns its entries, never nil. names are those of
// the index as a whole.
func (r *layoutReader) index(data []byte, names []string, depth int) ([]descriptor, error) {
	doc := indexDocument{Manifests: []descriptor{}}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w: index: %w", containers.ErrFormat, err)
	}
	if doc.SchemaVersion != 2 || doc.Manifests == nil {
		return nil, fmt.Errorf("%w: an index of schema version %d, 2 is known", containers.ErrFormat, doc.SchemaVersion)
	}
	for _, d := range doc.Manifests {
		if err := r.entry(d, names, depth); err != nil {
			return nil, err
		}
	}
	return doc.Manifests, nil
}

func (r *layoutReader) entry(d descriptor, names []string, depth int) error {
	if r.read++; r.read > maxImages {
		return fmt.Errorf("%w: more than %d images", containers.ErrFormat, maxImages)
	}
	if isAttached(d) {
		return nil
	}
	for _, key := range []string{annotationContainerd, annotationName} {
		if name := d.Annotations[key]; name != "" && !slices.Contains(names, name) {
			names = append(slices.Clone(names), name)
		}
	}
	switch d.MediaType {
	case containers.TypeOCIIndex, containers.TypeDockerList:
		if depth == maxNesting {
			return fmt.Errorf("%w: indexes lie more than %d deep in one another", containers.ErrFormat, maxNesting)
		}
		data, err := r.file.blob(d)
		if err != nil {
			return err
		}
		_, err = r.index(data, names, depth+1)
		return err
	case containers.TypeOCIManifest, containers.TypeDockerManifest:
		return r.manifest(d, names, depth > 0)
	}
	return nil // something else than an image may lie in a layout
}

// manifest reads one image. One of an image's platforms need not be there:
// docker saves an index of all with the blobs of one.
func (r *layoutReader) manifest(d descriptor, names []string, mayLack bool) error {
	if at, again := r.seen[d.Digest]; again {
		if at < 0 {
			return nil
		}
		for _, name := range names {
			if !slices.Contains(r.images[at].Names, name) {
				r.images[at].Names = append(r.images[at].Names, name)
			}
		}
		return nil
	}
	r.seen[d.Digest] = -1
	manifest, err := r.file.blob(d)
	if mayLack && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if subject, _, err := subjectOf(manifest); subject != "" || err != nil {
		return err
	}
	ref, err := containers.ConfigOf(manifest, d.MediaType)
	if err != nil {
		return err
	}
	if ref.MediaType != containers.TypeOCIConfig && ref.MediaType != containers.TypeDockerConfig {
		return nil // a chart or another artifact
	}
	config, err := r.file.blob(descriptor{Digest: string(ref.Digest), Size: ref.Size})
	if mayLack && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	img, err := containers.Parse(manifest, d.MediaType, config)
	if err != nil {
		return err
	}
	r.seen[d.Digest] = len(r.images)
	r.images = append(r.images, Found{Names: slices.Clone(names), Platform: img.Platform, Image: img})
	return nil
}

// A verifier ends in an error where what was read is not what the digest says.
type verifier struct {
	r      io.Reader
	hash   hash.Hash
	digest containers.Digest
}

func newVerifier(r io.Reader, digest containers.Digest) *verifier {
	return &verifier{r: r, hash: sha256.New(), digest: digest}
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(v.hash.Sum(nil)); got != v.digest.Hex() {
			return n, fmt.Errorf("%w: the blob %s holds sha256:%s", containers.ErrFormat, v.digest, got)
		}
	}
	return n, err
}
