package podman

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layer"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// layerRecord is one layer in overlay-layers/layers.json.
type layerRecord struct {
	ID               string            `json:"id"`
	Parent           string            `json:"parent,omitempty"`
	Created          time.Time         `json:"created"`
	CompressedDigest containers.Digest `json:"compressed-diff-digest"`
	CompressedSize   int64             `json:"compressed-size"`
	DiffDigest       containers.Digest `json:"diff-digest"`
	DiffSize         int64             `json:"diff-size"`
	Compression      int               `json:"compression,omitempty"`
	UIDs             []uint32          `json:"uidset,omitempty"`
	GIDs             []uint32          `json:"gidset,omitempty"`
}

// imageRecord is one image in overlay-images/images.json.
type imageRecord struct {
	ID           string                       `json:"id"`
	Digest       containers.Digest            `json:"digest"`
	Names        []string                     `json:"names,omitempty"`
	NamesHistory []string                     `json:"names-history,omitempty"`
	TopLayer     string                       `json:"layer"`
	Metadata     string                       `json:"metadata"`
	DataNames    []string                     `json:"big-data-names"`
	DataSizes    map[string]int64             `json:"big-data-sizes"`
	DataDigests  map[string]containers.Digest `json:"big-data-digests"`
	Created      time.Time                    `json:"created"`
}

// compressions are containers/storage's numbers.
var compressions = map[layer.Compression]int{layer.Plain: 0, layer.Gzip: 2, layer.Zstd: 4}

type writer struct {
	store  Store
	tree   *tree.Tree
	layers map[containers.Digest]Layer
	done   map[string]bool // layers by id

	imageRecords []imageRecord
	layerRecords []layerRecord
}

func (s Store) dirMode() int64 {
	if s.Private {
		return 0o700
	}
	return 0o755
}

func (s Store) fileMode() int64 {
	if s.Private {
		return 0o600
	}
	return 0o644
}

func (w *writer) path(name string) string { return path.Join(w.store.Prefix, name) }

func (w *writer) mkdir(name string, mode int64) error {
	return w.tree.Mkdir(w.path(name), mode, w.owner(0), w.owner(0))
}

func (w *writer) file(name string, data []byte) error {
	return w.tree.WriteFile(w.path(name), data, w.store.fileMode(), w.owner(0), w.owner(0))
}

// image writes an image's layers and documents.
func (w *writer) image(img Image) error {
	created := img.Created
	if created.IsZero() {
		created = w.store.Clock.UTC()
	}
	var below []stacked
	for _, l := range img.Layers {
		next, err := w.layer(l, below, created)
		if err != nil {
			return err
		}
		below = append(below, next)
	}
	r := imageRecord{
		ID: img.ID.Hex(), Digest: img.Digest, Names: img.Names, NamesHistory: img.Names,
		// That there are no signatures is noted with the manifest's digest.
		Metadata:  fmt.Sprintf(`{"signatures-sizes":{%q:[]}}`, img.Digest),
		DataSizes: map[string]int64{}, DataDigests: map[string]containers.Digest{}, Created: created,
	}
	if len(below) > 0 {
		r.TopLayer = below[len(below)-1].id
	}
	dir := "overlay-images/" + r.ID
	if err := w.mkdir(dir, w.store.dirMode()); err != nil {
		return err
	}
	add := func(key string, data []byte) error {
		r.DataNames = append(r.DataNames, key)
		r.DataSizes[key], r.DataDigests[key] = int64(len(data)), containers.DigestOf(data)
		return w.file(dir+"/"+dataName(key), data)
	}
	err := add(string(img.ID), img.Config)
	if img.Index != nil {
		err = errors.Join(err, add(manifestKey(containers.DigestOf(img.Index)), img.Index))
	}
	err = errors.Join(err, add(manifestKey(img.Digest), img.Manifest), add("manifest", img.Manifest),
		add("signature-"+img.Digest.Hex(), nil))
	w.imageRecords = append(w.imageRecords, r)
	return err
}

// manifestKey is the key under which a manifest is found by its digest.
func manifestKey(d containers.Digest) string { return "manifest-" + string(d) }

// dataName is the file name of a document: keys of other characters than
// small letters, digits and points are written in base64.
func dataName(key string) string {
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789.") == "" {
		return key
	}
	return "=" + base64.StdEncoding.EncodeToString([]byte(key))
}

// A stacked is a layer in the store.
type stacked struct {
	id   string
	root tree.Entry // of its files
}

// layer writes a layer that lies on others, if it is not there yet.
func (w *writer) layer(l containers.Layer, below []stacked, created time.Time) (stacked, error) {
	content, ok := w.layers[l.Digest]
	if !ok || content.Tree == nil {
		return stacked{}, fmt.Errorf("the layer %s is missing", l.Digest)
	}
	parent := ""
	if len(below) > 0 {
		parent = below[len(below)-1].id
	}
	s := stacked{id: ChainID(parent, l.DiffID)}
	root, _ := content.Tree.Lookup(".")
	s.root = *root
	if root.ModTime.IsZero() && parent != "" {
		// The archive has no entry for it: it is as the one below.
		up := below[len(below)-1].root
		s.root.Mode, s.root.UID, s.root.GID = up.Mode, up.UID, up.GID
	}
	if w.done[s.id] {
		return s, nil
	}
	w.done[s.id] = true
	w.layerRecords = append(w.layerRecords, layerRecord{
		ID: s.id, Parent: parent, Created: created,
		CompressedDigest: l.Digest, CompressedSize: l.Size, DiffDigest: l.DiffID, DiffSize: content.Info.Size,
		Compression: compressions[content.Info.Compression], UIDs: content.Info.UIDs, GIDs: content.Info.GIDs,
	})
	if content.TarSplit != nil && !content.Info.Repeats {
		if err := w.file("overlay-layers/"+s.id+".tar-split.gz", content.TarSplit); err != nil {
			return s, err
		}
	}
	return s, w.overlay(s, content.Tree, below)
}

// overlay writes what the driver keeps of a layer.
func (w *writer) overlay(s stacked, files *tree.Tree, below []stacked) error {
	dir := "overlay/" + s.id
	if err := w.mkdir(dir, w.store.dirMode()); err != nil {
		return err
	}
	if err := w.diff(dir+"/diff", s.root, files); err != nil {
		return err
	}
	link := linkName(s.id)
	if err := w.tree.Symlink("../"+s.id+"/diff", w.path("overlay/l/"+link)); err != nil {
		return err
	}
	if err := w.file(dir+"/link", []byte(link)); err != nil {
		return err
	}
	for _, name := range []string{"merged", "work"} {
		if err := w.mkdir(dir+"/"+name, 0o700); err != nil {
			return err
		}
	}
	if len(below) == 0 {
		// The lowest layer is mounted on top of this, having none below.
		return w.mkdir(dir+"/empty", 0o700)
	}
	var lower []string
	for i := len(below) - 1; i >= 0; i-- {
		lower = append(lower, "l/"+linkName(below[i].id))
	}
	return w.file(dir+"/lower", []byte(strings.Join(lower, ":")))
}

// diff writes a layer's files.
func (w *writer) diff(dir string, root tree.Entry, files *tree.Tree) error {
	files, err := w.owned(files)
	if err != nil {
		return err
	}
	if err := w.tree.Graft(w.path(dir), files); err != nil {
		return err
	}
	return w.tree.Change(w.path(dir), func(e *tree.Entry) {
		e.Mode, e.UID, e.GID = root.Mode, w.owner(root.UID), w.owner(root.GID)
	})
}

func (w *writer) owner(id int) int {
	if w.store.Owner == nil {
		return id
	}
	return w.store.Owner(id)
}

// owned gives files the owners that the store wants. The tree stays as it is.
func (w *writer) owned(files *tree.Tree) (*tree.Tree, error) {
	if w.store.Owner == nil {
		return files, nil
	}
	copied := tree.New()
	if err := copied.Graft(".", files); err != nil {
		return nil, err
	}
	err := files.Walk(func(e *tree.Entry) error {
		if e.Typeflag == tree.TypeLink {
			return nil // its file has the owner
		}
		return copied.Change(e.Path, func(e *tree.Entry) { e.UID, e.GID = w.owner(e.UID), w.owner(e.GID) })
	})
	return copied, err
}

// records writes the lists of images and layers, and the locks: a reader
// opens them and does not go without.
func (w *writer) records() error {
	for name, list := range map[string]any{
		"overlay-images/images.json": w.imageRecords, "overlay-layers/layers.json": w.layerRecords,
	} {
		data, err := json.Marshal(list)
		if err != nil {
			return err
		}
		if err := w.file(name, data); err != nil {
			return err
		}
	}
	return errors.Join(w.file("overlay-images/images.lock", nil), w.file("overlay-layers/layers.lock", nil))
}
