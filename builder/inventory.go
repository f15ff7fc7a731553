package builder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/manifest"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// inventory is what the manifest and the bill of materials say of a tree's
// packages. It is read before the recipe's edits take anything away.
type inventory struct {
	Packages  []manifest.Package
	Copyright map[string][]byte // usr/share/doc/PACKAGE/copyright
}

// maxCopyright bounds a copyright file, in bytes.
const maxCopyright = 4 << 20

// keepInventory notes the tree's packages in a result.
func keepInventory(t *tree.Tree, l *lock.Lock, d *store.Draft) error {
	found, err := readInventory(t, l)
	if err != nil {
		return err
	}
	data, err := json.Marshal(found)
	if err != nil {
		return err
	}
	return writeFile(d, filePackages, data)
}

// readInventory reads dpkg's database of the tree and adds what the lock knows
// of each package file.
func readInventory(t *tree.Tree, l *lock.Lock) (*inventory, error) {
	status, err := t.ReadFile("var/lib/dpkg/status")
	if err != nil {
		return nil, fmt.Errorf("the tree's package database: %w", err)
	}
	in := &inventory{Copyright: map[string][]byte{}}
	if in.Packages, err = manifest.Installed(bytes.NewReader(status)); err != nil {
		return nil, err
	}
	locked := map[string]lock.Package{}
	for _, p := range l.Packages {
		locked[p.Name+":"+p.Arch] = p
	}
	for i := range in.Packages {
		p := &in.Packages[i]
		if file, ok := locked[p.Name+":"+p.Architecture]; ok {
			p.SHA256, p.Size = file.SHA256, file.Size
		}
		name := "usr/share/doc/" + p.Name + "/copyright"
		entry, err := t.Resolve(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && entry.Size > maxCopyright {
			continue
		}
		if err != nil {
			return nil, err
		}
		if in.Copyright[p.Name], err = t.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return in, nil
}
