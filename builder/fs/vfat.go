package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/applbuild/applbuild/builder/fs/internal/imagefile"
)

// Content is a file's contents, such as a *bytes.Reader or *io.SectionReader.
type Content interface {
	io.ReaderAt
	Size() int64 // bytes
}

// Figures of FAT32 (Microsoft FAT specification, section 3.5).
const (
	fatMinClusters = 65525 // fewer would make it FAT16
	fatMaxClusters = 0x0ffffff5
	fatReserved    = 32 // sectors before the first table, as mkfs.vfat has it
	fatTables      = 2
	fatEntry       = 4  // bytes in a table for a cluster
	fatDirEntry    = 32 // bytes
	fatLongName    = 13 // UTF-16 code units in an entry of a long name
	fatSlack       = 64 // sectors that mkfs.vfat may spend on alignment
	fatMaxFile     = math.MaxUint32
)

// VFAT writes FAT32 file systems with mkfs.vfat (dosfstools 4.2 or later) and
// mtools 4.0.32 or later.
type VFAT struct {
	tool   Tool
	clock  time.Time
	serial uint32
	label  string
	size   int64
	sector int64
}

// VFATOption changes how a VFAT writes.
type VFATOption func(*VFAT)

// VFATLabel sets the label: at most 11 characters of A to Z, 0 to 9, - and _.
func VFATLabel(label string) VFATOption { return func(v *VFAT) { v.label = label } }

// VFATSize sets the size in bytes, a multiple of the sector size. Otherwise it
// is the least that holds the files, and at least what FAT32 needs, in whole MiB.
func VFATSize(n int64) VFATOption { return func(v *VFAT) { v.size = n } }

// VFATSectorSize sets the size of a sector in bytes, 512 or 4096: the disk's.
func VFATSectorSize(n int64) VFATOption { return func(v *VFAT) { v.sector = n } }

// NewVFAT returns a writer. The clock is the time of all files and folders,
// and serial the volume's number.
func NewVFAT(tool Tool, clock time.Time, serial uint32, opts ...VFATOption) *VFAT {
	v := &VFAT{tool: tool, clock: clock, serial: serial, sector: 512}
	for _, o := range opts {
		o(v)
	}
	return v
}

// Write makes a file system with the files, each named by its path with
// slashes and without one at the beginning, as in "EFI/BOOT/BOOTX64.EFI".
// Folders are made as needed. Errors match ErrNoSpace.
func (v *VFAT) Write(ctx context.Context, files map[string]Content, image string) error {
	if err := v.write(ctx, files, image); err != nil {
		return fmt.Errorf("vfat: %w", err)
	}
	return nil
}

func (v *VFAT) write(ctx context.Context, files map[string]Content, image string) error {
	names := slices.Sorted(maps.Keys(files))
	dirs, err := fatDirs(files, names)
	if err != nil {
		return err
	}
	if v.sector != 512 && v.sector != 4096 {
		return fmt.Errorf("sectors of %d bytes; use 512 or 4096", v.sector)
	}
	if len(v.label) > 11 || strings.Trim(v.label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return fmt.Errorf("label %q is not 11 or fewer of A to Z, 0 to 9, - and _", v.label)
	}
	size, cluster, err := v.geometry(files, dirs)
	if err != nil {
		return err
	}
	return imagefile.Create(image, func(dir, name string) error {
		if err := truncate(filepath.Join(dir, name), size); err != nil {
			return err
		}
		// --invariant has a serial number of its own: the last one counts.
		argv := []string{"mkfs.vfat", "--invariant", "-F", "32", "-i", fmt.Sprintf("%08x", v.serial),
			"-S", strconv.FormatInt(v.sector, 10), "-s", strconv.FormatInt(cluster/v.sector, 10)}
		if v.label != "" {
			argv = append(argv, "-n", v.label)
		}
		// mtools takes times from SOURCE_DATE_EPOCH, and must not look for
		// settings or doubt a disk's shape.
		env := environment("SOURCE_DATE_EPOCH="+strconv.FormatInt(v.clock.Unix(), 10), "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1")
		if err := run(ctx, v.tool, Command{Argv: append(argv, name), Env: env, Dir: dir}); err != nil {
			return err
		}
		if len(dirs) > 0 {
			argv := []string{"mmd", "-i", name}
			for _, d := range dirs {
				argv = append(argv, "::/"+d.path)
			}
			if err := run(ctx, v.tool, Command{Argv: argv, Env: env, Dir: dir}); err != nil {
				return err
			}
		}
		for _, n := range names {
			if err := run(ctx, v.tool, Command{
				Argv:  []string{"mcopy", "-i", name, "-", "::/" + n},
				Env:   env,
				Stdin: io.NewSectionReader(files[n], 0, files[n].Size()),
				Dir:   dir,
			}); err != nil {
				return fmt.Errorf("%s: %w", n, err)
			}
		}
		return nil
	})
}

// geometry decides on the sizes of the file system and of a cluster in bytes.
// Larger clusters are taken as soon as there are enough of them for FAT32.
func (v *VFAT) geometry(files map[string]Content, dirs []fatDir) (size, cluster int64, err error) {
	need := func(cluster int64) int64 {
		used := int64(1) // the root folder
		for _, d := range dirs {
			used += (d.entries*fatDirEntry + cluster - 1) / cluster
		}
		for _, c := range files {
			used += (c.Size() + cluster - 1) / cluster
		}
		used = max(used, fatMinClusters)
		table := (used*fatEntry + v.sector - 1) / v.sector
		return (fatReserved+fatSlack+fatTables*table)*v.sector + used*cluster
	}
	cluster = v.sector
	for next := cluster * 2; next <= 32<<10; next *= 2 {
		if have := max(v.size, need(cluster)); have < need(next) {
			break
		}
		cluster = next
	}
	size = v.size
	if size == 0 {
		size = (need(cluster) + 1<<20 - 1) >> 20 << 20
	}
	if size%v.sector != 0 {
		return 0, 0, fmt.Errorf("size %d is not a multiple of the %d-byte sector", size, v.sector)
	}
	if short := need(cluster) - size; short > 0 {
		return 0, 0, fmt.Errorf("%w: %d bytes, %d more are needed for FAT32 with these files", ErrNoSpace, size, short)
	}
	if size/cluster > fatMaxClusters {
		return 0, 0, fmt.Errorf("size %d is more than FAT32 can have", size)
	}
	return size, cluster, nil
}

// fatDir is a folder to make and how many entries it takes.
type fatDir struct {
	path    string
	entries int64
}

// fatDirs checks all names and returns the folders they need, parents first.
func fatDirs(files map[string]Content, names []string) ([]fatDir, error) {
	seen := map[string]string{} // in upper case: FAT does not tell cases apart
	entries := map[string]int64{}
	add := func(name string) {
		dir, base := path.Split(name)
		entries[strings.TrimSuffix(dir, "/")] += 1 + (int64(len(utf16.Encode([]rune(base))))+fatLongName-1)/fatLongName
	}
	for _, name := range names {
		if err := checkFATName(name); err != nil {
			return nil, err
		}
		if n := files[name].Size(); n > fatMaxFile {
			return nil, fmt.Errorf("%s has %d bytes, a file on FAT32 has at most %d", name, n, fatMaxFile)
		}
		upper := strings.ToUpper(name)
		if other, ok := seen[upper]; ok {
			return nil, fmt.Errorf("%s and %s are the same name on FAT", other, name)
		}
		seen[upper] = name
		add(name)
	}
	made := map[string]string{}
	for _, name := range names {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			upper := strings.ToUpper(dir)
			if file, ok := seen[upper]; ok {
				return nil, fmt.Errorf("%s is a file and a folder", file)
			}
			if other, ok := made[upper]; ok {
				if other != dir {
					return nil, fmt.Errorf("%s and %s are the same name on FAT; write both in one way", other, dir)
				}
				continue
			}
			made[upper] = dir
			entries[dir] += 2 // . and ..
			add(dir)
		}
	}
	var dirs []fatDir
	for _, d := range slices.Sorted(maps.Values(made)) {
		dirs = append(dirs, fatDir{d, entries[d]})
	}
	return dirs, nil
}

func checkFATName(name string) error {
	if name == "" || path.Clean(name) != name || path.IsAbs(name) || name == "." || name == ".." || strings.HasPrefix(name, "../") || !utf8.ValidString(name) {
		return fmt.Errorf("%q is not a plain relative path", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		bad := strings.IndexFunc(part, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`"*:<>?\|[]`, r) })
		if bad >= 0 || strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") || strings.HasPrefix(part, " ") || len(part) > 255 {
			return fmt.Errorf("%q has a name that is not taken for FAT: printable ASCII without \"*:<>?\\|[], and no space or dot at the end", name)
		}
	}
	return nil
}

// truncate makes an empty file of a size in bytes.
func truncate(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
