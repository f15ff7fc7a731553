package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/applbuild/applbuild/builder/fs/internal/imagefile"
	"github.com/google/uuid"
)

// The header of swap, version 1 (Linux kernel, include/linux/swap.h, union
// swap_header). It has the machine's byte order, which is little-endian on all
// that this project builds for.
const (
	swapPage    = 4096 // bytes; kernels with larger pages take no such swap
	swapVersion = 1024 // offsets in bytes
	swapLast    = 1028
	swapUUID    = 1036
	swapLabel   = 1052
	swapMagic   = swapPage - 10
)

// Swap writes swap space by itself: it is one page.
type Swap struct {
	uuid  uuid.UUID
	size  int64
	label string
}

// SwapOption changes how a Swap writes.
type SwapOption func(*Swap)

// SwapLabel sets the label, at most 15 bytes.
func SwapLabel(label string) SwapOption { return func(s *Swap) { s.label = label } }

// NewSwap returns a writer of swap space of a size in bytes, a multiple of 4096.
func NewSwap(id uuid.UUID, size int64, opts ...SwapOption) *Swap {
	s := &Swap{uuid: id, size: size}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Write makes swap space at path.
func (s *Swap) Write(path string) error {
	if err := s.write(path); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	return nil
}

func (s *Swap) write(path string) error {
	if err := CheckVolume(KindSwap, s.label, s.size, swapPage); err != nil {
		return err
	}
	last := s.size/swapPage - 1
	if last > math.MaxUint32 {
		return fmt.Errorf("size %d is more than swap can have", s.size)
	}
	page := make([]byte, swapPage)
	binary.LittleEndian.PutUint32(page[swapVersion:], 1)
	binary.LittleEndian.PutUint32(page[swapLast:], uint32(last))
	copy(page[swapUUID:], s.uuid[:])
	copy(page[swapLabel:], s.label)
	copy(page[swapMagic:], "SWAPSPACE2")
	return imagefile.Create(path, func(dir, name string) error {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		_, err = f.Write(page)
		return errors.Join(err, f.Truncate(s.size), f.Close())
	})
}
