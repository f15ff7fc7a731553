package builder

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"strings"

	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/fs/fat"
	"github.com/applbuild/applbuild/builder/manifest"
	"github.com/applbuild/applbuild/builder/uki"
	"github.com/applbuild/applbuild/builder/verity"
)

// ErrImage says that a file is no disk that this program can read.
var ErrImage = errors.New("not a disk image with a GPT")

// Inspection is what a disk image says of itself.
type Inspection struct {
	Image      string             `json:"image"`
	Size       int64              `json:"size"` // bytes
	SectorSize int64              `json:"sector_size"`
	DiskUUID   string             `json:"disk_uuid"`
	Partitions []PartitionInfo    `json:"partitions"`
	RootHash   string             `json:"root_hash,omitempty"` // from the kernel's command line
	Kernels    []KernelInfo       `json:"kernels,omitempty"`
	Manifest   *manifest.Manifest `json:"manifest,omitempty"` // of the file beside the image
	// Containers are left to whoever has a Builder: see Builder.Containers.
	Containers []manifest.Container `json:"containers,omitempty"`
	Problems   []string             `json:"problems,omitempty"`
}

// PartitionInfo is one partition.
type PartitionInfo struct {
	Number   int    `json:"number"`
	Type     string `json:"type"` // systemd's name, or the GUID
	UUID     string `json:"uuid"`
	Label    string `json:"label"`
	Offset   int64  `json:"offset"` // bytes
	Size     int64  `json:"size"`   // bytes
	ReadOnly bool   `json:"read_only"`
	Contents string `json:"contents,omitempty"` // as blkid names it
}

// KernelInfo is one unified kernel image of the EFI system partition.
type KernelInfo struct {
	Path      string        `json:"path"`
	Size      int64         `json:"size"` // bytes
	Uname     string        `json:"uname,omitempty"`
	Cmdline   string        `json:"cmdline"`
	OSRelease string        `json:"os_release,omitempty"`
	Sections  []SectionInfo `json:"sections"`
}

// SectionInfo is one section of a unified kernel image.
type SectionInfo struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// image is an open disk image.
type image struct {
	f     *os.File
	size  int64
	table *disk.Table
}

func openImage(name string) (*image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		var table *disk.Table
		if table, err = disk.Read(f, size); err == nil {
			return &image{f: f, size: size, table: table}, nil
		}
	}
	f.Close()
	if errors.Is(err, disk.ErrNoTable) {
		err = ErrImage
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}

// section is the bytes of a partition.
func (m *image) section(e disk.Entry) *io.SectionReader {
	return io.NewSectionReader(m.f, e.Offset, e.Size)
}

// find returns the first partition of a type.
func (m *image) find(name string) (disk.Entry, bool) {
	for _, e := range m.table.Partitions {
		if disk.TypeName(e.Type) == name {
			return e, true
		}
	}
	return disk.Entry{}, false
}

// Inspect reads what a disk image says of itself. It needs no privileges and
// mounts nothing.
func Inspect(ctx context.Context, name string) (*Inspection, error) {
	m, err := openImage(name)
	if err != nil {
		return nil, err
	}
	defer m.f.Close()
	in := &Inspection{Image: name, Size: m.size, SectorSize: m.table.SectorSize, DiskUUID: m.table.DiskUUID.String()}
	for _, p := range m.table.Problems {
		in.Problems = append(in.Problems, p.String())
	}
	for _, e := range m.table.Partitions {
		in.Partitions = append(in.Partitions, PartitionInfo{
			Number: e.Index, Type: disk.TypeName(e.Type), UUID: e.UUID.String(), Label: e.Label,
			Offset: e.Offset, Size: e.Size, ReadOnly: e.Attributes&disk.AttrReadOnly != 0, Contents: fs.Detect(m.section(e)),
		})
	}
	kernels, err := m.kernels(ctx)
	if err != nil {
		in.Problems = append(in.Problems, err.Error())
	}
	for _, k := range kernels {
		info, err := describeKernel(k)
		if err != nil {
			in.Problems = append(in.Problems, fmt.Sprintf("%s: %v", k.path, err))
			continue
		}
		in.Kernels = append(in.Kernels, *info)
		if hash, ok := rootHashOf(info.Cmdline); ok && in.RootHash == "" {
			in.RootHash = hash
		}
	}
	in.Manifest, err = manifestBeside(name)
	return in, err
}

// manifestBeside reads NAME.manifest.json beside NAME.raw; nil where there is
// none.
func manifestBeside(name string) (*manifest.Manifest, error) {
	f, err := os.Open(strings.TrimSuffix(name, path.Ext(name)) + ".manifest.json")
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return manifest.Read(f)
}

// rootHashOf finds roothash= on a kernel's command line.
func rootHashOf(cmdline string) (string, bool) {
	for word := range strings.FieldsSeq(cmdline) {
		if hash, ok := strings.CutPrefix(word, "roothash="); ok {
			return hash, true
		}
	}
	return "", false
}

// kernelFile is a unified kernel image of the EFI system partition.
type kernelFile struct {
	path string
	data []byte
	file *uki.File
}

// kernels reads the unified kernel images of the EFI system partition: what is
// in EFI/Linux, and the firmware's default where that is one.
func (m *image) kernels(ctx context.Context) ([]kernelFile, error) {
	esp, ok := m.find("esp")
	if !ok {
		return nil, nil
	}
	files, err := fat.NewReader(m.section(esp), esp.Size)
	if err != nil {
		return nil, fmt.Errorf("EFI system partition: %w", err)
	}
	var found []kernelFile
	for _, dir := range []string{"EFI/BOOT", "EFI/Linux"} {
		entries, err := files.ReadDir(dir)
		if dir != "EFI/BOOT" && errors.Is(err, iofs.ErrNotExist) {
			continue // only a disk with a boot loader has it
		}
		if err != nil {
			return nil, fmt.Errorf("EFI system partition: %s: %w", dir, err)
		}
		for _, entry := range entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			name := path.Join(dir, entry.Name)
			if !strings.EqualFold(path.Ext(name), ".efi") {
				continue
			}
			data, err := files.ReadFile(name, maxBootFile)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			image, err := uki.Read(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if _, err := image.Section(".linux"); err == nil {
				found = append(found, kernelFile{name, data, image})
			}
		}
	}
	return found, nil
}

func describeKernel(k kernelFile) (*KernelInfo, error) {
	info := &KernelInfo{Path: k.path, Size: int64(len(k.data))}
	var err error
	if info.Cmdline, err = k.file.Cmdline(); err != nil {
		return nil, err
	}
	if info.OSRelease, err = k.file.OSRelease(); err != nil && !errors.Is(err, uki.ErrNoSection) {
		return nil, err
	}
	if info.Uname, err = k.file.Uname(); err != nil && !errors.Is(err, uki.ErrNoSection) {
		return nil, err
	}
	for i := range k.file.Sections {
		s := &k.file.Sections[i]
		sum, err := s.SHA256()
		if err != nil {
			return nil, err
		}
		info.Sections = append(info.Sections, SectionInfo{Name: s.Name, Size: s.Size, SHA256: hex.EncodeToString(sum[:])})
	}
	return info, nil
}

// verityError puts the partitions' labels into what verity says of blocks.
func verityError(root, hashes disk.Entry, err error) []string {
	var corrupt *verity.CorruptError
	if !errors.As(err, &corrupt) {
		return []string{fmt.Sprintf("partition %d (%s): %v", hashes.Index, hashes.Label, err)}
	}
	var problems []string
	if corrupt.Root {
		problems = append(problems, fmt.Sprintf("partition %d (%s): the top of the hash tree does not have the root hash of the kernel's command line", hashes.Index, hashes.Label))
	}
	for _, b := range corrupt.Blocks {
		p := root
		if b.Level != verity.DataLevel {
			p = hashes
		}
		problems = append(problems, fmt.Sprintf("partition %d (%s): %s is wrong", p.Index, p.Label, b))
	}
	if more := corrupt.Count - int64(len(corrupt.Blocks)); more > 0 {
		problems = append(problems, fmt.Sprintf("partition %d (%s): %d more blocks are wrong", root.Index, root.Label, more))
	}
	return problems
}
