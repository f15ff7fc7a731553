package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sync/errgroup"
)

// copiers is how many partitions are filled at a time: enough to keep reading
// and writing busy at once.
const copiers = 2

// Write plans a layout and writes it to a regular file, which becomes exactly
// as large as the disk and loses what it had. The file is neither synced nor
// closed. The same layout gives the same bytes.
func Write(ctx context.Context, f *os.File, l Layout) (*Plan, error) {
	p, err := l.Plan()
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	if err := p.write(ctx, f); err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return p, nil
}

func (p *Plan) write(ctx context.Context, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := f.Truncate(p.Size); err != nil {
		return err
	}
	if err := p.writeTable(f); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiers)
	for i, part := range p.Partitions {
		if part.Content == nil {
			continue
		}
		g.Go(func() error {
			if err := copyContent(ctx, f, p.Offset(i), part.Content); err != nil {
				return fmt.Errorf("%s: %w", partName(part.Index, part.Label), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// writeTable writes protective MBR, both headers and both arrays.
func (p *Plan) writeTable(f *os.File) error {
	t := &gpt.Table{
		LogicalSectorSize:  int(p.SectorSize),
		PhysicalSectorSize: int(p.SectorSize),
		GUID:               p.DiskUUID.String(),
		ProtectiveMBR:      true,
	}
	for _, part := range p.Partitions {
		t.Partitions = append(t.Partitions, &gpt.Partition{
			Index: part.Index, Start: uint64(part.FirstLBA), End: uint64(part.LastLBA), Size: uint64(part.Size),
			Type: gpt.Type(part.Type), GUID: part.UUID.String(), Name: part.Label, Attributes: part.Attributes,
		})
	}
	if err := t.Write(unsynced{f}, p.Size); err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	if p.Size/p.SectorSize-1 > mbrMaxSectors {
		// The table's writer cuts a size that 32 bits cannot hold instead of
		// saying so with all ones (UEFI Specification, section 5.2.3).
		_, err := f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, mbrEntry+mbrSizeInLBA)
		return err
	}
	return nil
}

// unsynced is a file whose Sync is not seen by the table's writer, which would
// call it after each of its five small writes.
type unsynced struct{ f *os.File }

func (u unsynced) ReadAt(b []byte, off int64) (int, error)   { return u.f.ReadAt(b, off) }
func (u unsynced) WriteAt(b []byte, off int64) (int, error)  { return u.f.WriteAt(b, off) }
func (u unsynced) Seek(off int64, whence int) (int64, error) { return u.f.Seek(off, whence) }
func (u unsynced) Read(b []byte) (int, error)                { return u.f.Read(b) }
func (u unsynced) Stat() (os.FileInfo, error)                { return u.f.Stat() }
func (u unsynced) Close() error                              { return errors.ErrUnsupported }

// readFull fills b from offset off; an end before that is ErrUnexpectedEOF.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
