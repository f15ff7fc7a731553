package docker

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// The folders of docker's store, in the data-root and in the template of it.
const (
	overlayDir = "overlay2"
	linkDir    = "overlay2/l"
	layerDir   = "image/overlay2/layerdb/sha256"
	imageDir   = "image/overlay2/imagedb/metadata/sha256"
)

// A writer puts images below the prefix:
//
//	names           the images' names, a line each: REPOSITORY NAME ID
//	SHORT/          of a layer's archive: diff/, diff-id, size, split
//	SHORT/          of a layer on others: cache-id, parent, link, lower
//	SHORT/config    of an image
//	seed/           what the data-root gets: folders, links to the files above,
//	                and empty files
type writer struct {
	tree   *tree.Tree
	prefix string
	layers map[containers.Digest]Layer
	done   map[string]bool // folders that are written
}

func (w *writer) path(name string) string { return path.Join(w.prefix, name) }

func (w *writer) file(name string, data []byte) error {
	return w.tree.WriteFile(w.path(name), data, 0o644, 0, 0)
}

// link puts a link to a file of the root into the template.
func (w *writer) link(name, target string) error {
	return w.tree.Symlink("/"+w.path(target), w.path("seed/"+name))
}

func (w *writer) images(images []Image) error {
	// Programs in layers may be setuid: they are for containers alone.
	if err := w.tree.Mkdir(w.prefix, 0o700, 0, 0); err != nil {
		return err
	}
	for _, dir := range []string{overlayDir, linkDir, layerDir, imageDir} {
		if err := w.tree.Mkdir(w.path("seed/"+dir), 0o755, 0, 0); err != nil {
			return err
		}
	}
	merged, names, err := merge(images)
	if err != nil {
		return err
	}
	for _, img := range merged {
		if err := w.image(img); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrImages, img.ID, err)
		}
	}
	text := strings.Join(names, "\n")
	if text != "" {
		text += "\n"
	}
	return w.file("names", []byte(text))
}

func (w *writer) image(img Image) error {
	var chain containers.Digest
	var lower []string // short names, the uppermost first
	for _, l := range img.Layers {
		if err := w.archive(l.DiffID); err != nil {
			return err
		}
		parent := chain
		chain = ChainID(parent, l.DiffID)
		if err := w.layer(chain, parent, l.DiffID, lower); err != nil {
			return err
		}
		lower = append([]string{"l/" + short("layer", string(chain))}, lower...)
	}
	dir := short("image", string(img.ID))
	if err := w.file(dir+"/config", img.Config); err != nil {
		return err
	}
	record := imageDir + "/" + img.ID.Hex()
	if err := w.tree.Mkdir(w.path("seed/"+record), 0o700, 0, 0); err != nil {
		return err
	}
	return w.link(record+"/system", dir+"/config")
}

// archive writes the files of a layer.
func (w *writer) archive(diffID containers.Digest) error {
	dir := short("archive", string(diffID))
	if w.done[dir] {
		return nil
	}
	w.done[dir] = true
	content, ok := w.layers[diffID]
	if !ok || content.Tree == nil {
		return fmt.Errorf("the layer %s is missing", diffID)
	}
	if err := w.tree.Graft(w.path(dir+"/diff"), content.Tree); err != nil {
		return err
	}
	if root, _ := content.Tree.Lookup("."); root.ModTime.IsZero() {
		// The archive has no entry for it: docker makes it so.
		err := w.tree.Change(w.path(dir+"/diff"), func(e *tree.Entry) { e.Mode, e.UID, e.GID = 0o755, 0, 0 })
		if err != nil {
			return err
		}
	}
	if content.TarSplit != nil {
		if err := w.file(dir+"/split", content.TarSplit); err != nil {
			return err
		}
	}
	size, err := sizeOf(content.Tree)
	if err != nil {
		return err
	}
	if err := w.file(dir+"/size", strconv.AppendInt(nil, size, 10)); err != nil {
		return err
	}
	return w.file(dir+"/diff-id", []byte(diffID))
}

// sizeOf is a layer's size as docker counts it: bytes of files and of the
// targets of symbolic links, a hard link once.
func sizeOf(t *tree.Tree) (int64, error) {
	var size int64
	err := t.Walk(func(e *tree.Entry) error {
		switch e.Typeflag {
		case tree.TypeReg:
			size += e.Size
		case tree.TypeSymlink:
			size += int64(len(e.Linkname))
		}
		return nil
	})
	return size, err
}

// layer writes what docker keeps of a layer that lies on others.
func (w *writer) layer(chain, parent, diffID containers.Digest, lower []string) error {
	link, archive, id := short("layer", string(chain)), short("archive", string(diffID)), chain.Hex()
	if w.done[link] {
		return nil
	}
	w.done[link] = true
	type entry struct{ name, data, link string } // data is the file's that link names
	driver, record := overlayDir+"/"+id+"/", layerDir+"/"+id+"/"
	entries := []entry{
		{driver + "diff", "", archive + "/diff"},
		{driver + "link", link, link + "/link"},
		{record + "cache-id", id, link + "/cache-id"},
		{record + "diff", "", archive + "/diff-id"},
		{record + "size", "", archive + "/size"},
	}
	if w.layers[diffID].TarSplit != nil {
		entries = append(entries, entry{record + "tar-split.json.gz", "", archive + "/split"})
	}
	if parent != "" {
		entries = append(entries,
			entry{driver + "lower", strings.Join(lower, ":"), link + "/lower"},
			entry{record + "parent", string(parent), link + "/parent"})
	}
	for _, e := range entries {
		if e.data != "" {
			if err := w.file(e.link, []byte(e.data)); err != nil {
				return err
			}
		}
		if err := w.link(e.name, e.link); err != nil {
			return err
		}
	}
	// Docker writes this one itself: a link would lead it to the root.
	if err := w.file("seed/"+driver+"committed", nil); err != nil {
		return err
	}
	return w.tree.Symlink("../"+id+"/diff", w.path("seed/"+linkDir+"/"+link))
}
