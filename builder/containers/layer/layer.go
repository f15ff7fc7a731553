// Package layer reads the layers of container images: one archive each, of
// the OCI image specification v1.1 (layer.md) or of Docker.
//
// Unpack decompresses a layer and verifies it, Index shows the verified
// archive as a tree in the form that overlayfs mounts, Flatten puts such trees
// on top of each other. The rules where archives are unusual (missing folders,
// entries that come twice, links on the way) are those of containers/storage,
// so that podman sees the files that it would have unpacked itself.
//
// The package fetches nothing and makes no files: contents stay in the archive.
package layer

import (
	"errors"

	"github.com/applbuild/applbuild/rootfs/tree"
)

// Errors that can be matched.
var (
	// ErrFormat matches complaints about an archive or its compression.
	ErrFormat = errors.New("malformed layer")
	// ErrPath matches complaints about entries that lead out of the layer, or
	// through something that is no folder.
	ErrPath = errors.New("path not allowed in a layer")
	// ErrDigest says that a layer is not what its digests say.
	ErrDigest = errors.New("layer does not match its digest")
	// ErrTooLarge says that a layer goes beyond one of the Limits.
	ErrTooLarge = errors.New("layer too large")
)

// Limits bound what a layer may become.
type Limits struct {
	Size    int64 // of the uncompressed archive, in bytes
	Entries int   // of the archive
}

// DefaultLimits are enough for any image that is in use, and keep a hostile
// one from filling disk or memory.
func DefaultLimits() Limits { return Limits{Size: 32 << 30, Entries: maxEntries} }

// Bounds of an index.
const (
	// maxEntries is the number of entries of an archive, and of files in its
	// tree: folders that are not in the archive count too.
	maxEntries = 2 << 20
	// maxNames is how many bytes all names, targets and extended attributes
	// may have together: they are kept in memory.
	maxNames = 256 << 20
	// maxHoles is how many bytes all sparse files of a layer may have.
	maxHoles = 8 << 30
	// maxXattr is the longest value of an extended attribute, as Linux has it.
	maxXattr = 64 << 10
	// maxName and maxPath are the longest name and path, in bytes, as Linux
	// has them.
	maxName = 255
	maxPath = 4095
	// maxDepth is how many folders a file may lie in. Linux has no such bound,
	// but to make a thousand folders in each other takes the square of that.
	maxDepth = 256
)

// Names by which archives tell of what is removed, OCI image specification,
// layer.md, "Whiteouts". Others with metaPrefix belong to AUFS.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// Attributes that make a folder opaque in overlayfs. The second one counts in
// mounts by ordinary users (option userxattr).
const (
	opaqueXattr     = "trusted.overlay.opaque"
	userOpaqueXattr = "user.overlay.opaque"
	opaqueValue     = "y"
)

// RootMode is the mode of a layer's root folder where the archive tells none.
// Such a folder has no time either, so that what stacks layers can give it the
// attributes of the folder below.
const RootMode = 0o555

// IsWhiteout says whether an entry of an indexed layer removes the file of
// its name in the layers below.
func IsWhiteout(e *tree.Entry) bool {
	return e.Typeflag == tree.TypeChar && e.Devmajor == 0 && e.Devminor == 0
}

// IsOpaque says whether a folder of an indexed layer hides what is in the
// folder of its name in the layers below.
func IsOpaque(e *tree.Entry) bool {
	return e.IsDir() && e.Xattrs[opaqueXattr] == opaqueValue
}
