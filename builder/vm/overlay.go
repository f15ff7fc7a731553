package vm

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// Numbers of the qcow2 format, version 3 (docs/interop/qcow2 in QEMU).
const (
	qcowMagic       = 0x514649fb // "QFI" and 0xfb
	qcowVersion     = 3
	qcowClusterBits = 16
	qcowCluster     = 1 << qcowClusterBits
	qcowHeader      = 104 // bytes
	qcowRefcount    = 4   // 16 bits each, as a power of two
	qcowBackingFmt  = 0xe2792aca

	// qcowCovered is how many bytes of the disk an entry of the first table
	// stands for.
	qcowCovered = qcowCluster / 8 * qcowCluster
	// maxOverlay keeps the first table within 2 MiB, and so what the file begins
	// with within one block of reference counts.
	maxOverlay = 128 << 40
	// maxBacking is the longest name of a file that an overlay may lie upon.
	maxBacking = 1023
)

// WriteOverlay writes the file of a disk, in the format qcow2, that lies upon the
// raw file backing: what is not written there is read here. The disk has size
// bytes, a multiple of 512 and not less than backing has. backing is best
// absolute; a [Drive] names it too.
//
// Several machines can share a disk so, without a copy of it each, and a power
// cut takes what was not flushed ([Guest.PowerCut]).
func WriteOverlay(w io.Writer, backing string, size int64) error {
	if len(backing) == 0 || len(backing) > maxBacking {
		return fmt.Errorf("vm: overlay: name of the file below has %d bytes: want 1 to %d", len(backing), maxBacking)
	}
	if size <= 0 || size%512 != 0 || size > maxOverlay {
		return fmt.Errorf("vm: overlay of %d bytes: want a multiple of 512, at most %d", size, int64(maxOverlay))
	}
	entries := (size + qcowCovered - 1) / qcowCovered
	table := (entries*8 + qcowCluster - 1) / qcowCluster // in clusters

	// The clusters: the header, the table of blocks of reference counts, its
	// only block, the first table of places.
	b := make([]byte, (3+table)*qcowCluster)
	be := binary.BigEndian
	be.PutUint32(b[0:], qcowMagic)
	be.PutUint32(b[4:], qcowVersion)
	be.PutUint32(b[16:], uint32(len(backing)))
	be.PutUint32(b[20:], qcowClusterBits)
	be.PutUint64(b[24:], uint64(size))
	be.PutUint32(b[36:], uint32(entries))
	be.PutUint64(b[40:], 3*qcowCluster) // first table
	be.PutUint64(b[48:], 1*qcowCluster) // reference counts
	be.PutUint32(b[56:], 1)             // clusters of their table
	be.PutUint32(b[96:], qcowRefcount)
	be.PutUint32(b[100:], qcowHeader)

	// The extension that says the format below, and the empty one that ends them.
	ext := b[qcowHeader:]
	be.PutUint32(ext[0:], qcowBackingFmt)
	be.PutUint32(ext[4:], uint32(len("raw")))
	copy(ext[8:], "raw")
	name := qcowHeader + 8 + 8 + 8
	be.PutUint64(b[8:], uint64(name))
	copy(b[name:], backing)

	be.PutUint64(b[qcowCluster:], 2*qcowCluster)
	for i := range 3 + table {
		be.PutUint16(b[2*qcowCluster+2*i:], 1)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("vm: overlay: %w", err)
	}
	return nil
}

// NewOverlay makes the file name with [WriteOverlay], which must not exist. A
// size below the backing file's, such as 0, is that file's.
func NewOverlay(name, backing string, size int64) error {
	info, err := os.Stat(backing)
	if err != nil {
		return fmt.Errorf("vm: overlay: %w", err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("vm: overlay: %w", err)
	}
	err = WriteOverlay(f, backing, max(size, info.Size()))
	if errClose := f.Close(); err == nil {
		err = errClose
	}
	if err != nil {
		os.Remove(name)
	}
	return err
}
