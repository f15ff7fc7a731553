// Package boots boots disks in QEMU and tests them as recipes say: it finds out
// what a disk needs, brings QEMU and its firmware, and turns a recipe's list of
// tests into a machine and a plan.
//
// Package vm runs QEMU and knows no disk of ours, package boottest runs a plan
// and knows no QEMU, package builder makes the disks; this one joins them.
package boots

import (
	"context"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/recipes"
)

// A Builder makes disks and brings QEMU: [builder.Builder].
type Builder interface {
	// Image builds a recipe's disk into a folder.
	Image(ctx context.Context, recipe *recipes.Recipe, o builder.ImageOptions) (*builder.Built, error)
	// BootTools returns the folder of a tree with QEMU for machines of an
	// architecture, as dpkg names it, their firmware and their TPM.
	BootTools(ctx context.Context, arch string) (dir string, err error)
	// Scratch makes a folder that the caller removes.
	Scratch(purpose string) (*store.Scratch, error)
}
