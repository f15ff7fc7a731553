package fs

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoSpace says that contents do not fit into the size asked for.
var ErrNoSpace = errors.New("not enough space")

// MinimumSize returns the least size in bytes of a writable file system or
// swap of a kind: what systemd-repart makes at least (systemd,
// src/shared/resize-fs.h), which the programs behind it take too, and for swap
// what is of any use. It is 0 for other kinds.
func MinimumSize(kind string) int64 {
	switch kind {
	case KindExt4:
		return 32 << 20
	case KindXFS:
		return 300 << 20
	case KindBtrfs:
		return 256 << 20
	case KindSwap:
		return 1 << 20
	}
	return 0
}

// MaxLabel returns how many bytes the label of a kind of file system has at
// most, 0 for kinds that have none.
func MaxLabel(kind string) int {
	switch kind {
	case KindExt4:
		return 16
	case KindXFS:
		return 12
	case KindBtrfs:
		return 255
	case KindSwap:
		return 15
	case KindVFAT:
		return 11
	}
	return 0
}

// CheckVolume checks what is asked of a writable file system or swap of a kind:
// its label, and its size in bytes, a multiple of unit.
func CheckVolume(kind, label string, size, unit int64) error {
	switch {
	case size%unit != 0 || size < MinimumSize(kind):
		return fmt.Errorf("size %d must be a multiple of %d and at least %d bytes", size, unit, MinimumSize(kind))
	case len(label) > MaxLabel(kind) || strings.ContainsAny(label, "\x00\n"):
		return fmt.Errorf("label %q must be one line of at most %d bytes", label, MaxLabel(kind))
	}
	return nil
}
