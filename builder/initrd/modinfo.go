package initrd

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/applbuild/applbuild/rootfs/xz"
)

// maxModule bounds a kernel module after decompression.
const maxModule = 64 << 20

// A module is one loadable module of the kernel.
type module struct {
	name string // with underscores
	path string // below the modules' directory, without a compression's suffix: kernel/fs/x.ko
	data []byte // decompressed
	info modinfo
}

// modinfo is what the section .modinfo of a module says of loading it.
type modinfo struct {
	depends  []string // modules whose symbols it uses
	pre      []string // softdep: loaded before, when there
	post     []string // softdep: loaded after, when there
	softdeps []string // the softdep lines as they are
	aliases  []string
	firmware []string
}

// moduleName is a module's name as the kernel has it.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return underscores(name)
}

func underscores(name string) string { return strings.ReplaceAll(name, "-", "_") }

// trimModule returns the path of a module without its compression, and
// whether it is a module's at all.
func trimModule(p string) (string, bool) {
	for _, suffix := range []string{".xz", ".zst", ".gz"} {
		p = strings.TrimSuffix(p, suffix)
	}
	return p, strings.HasSuffix(p, ".ko")
}

// decompress returns a module's ELF file; the suffix of its name says how it
// is compressed. More than limit bytes are refused.
func decompress(name string, data []byte, limit int64) ([]byte, error) {
	var r io.Reader
	var err error
	switch path.Ext(name) {
	case ".ko":
		return data, nil
	case ".xz":
		r, err = xz.NewReader(bytes.NewReader(data))
	case ".gz":
		r, err = gzip.NewReader(bytes.NewReader(data))
	case ".zst":
		var d *zstd.Decoder
		d, err = zstd.NewReader(bytes.NewReader(data),
			zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if err == nil {
			defer d.Close()
		}
		r = d
	default:
		return nil, fmt.Errorf("%s: not a kernel module's name", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if n > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b.Bytes(), nil
}

// readModinfo reads the section .modinfo: key=value, each ended by a NUL.
func readModinfo(data []byte) (modinfo, error) {
	var info modinfo
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return info, fmt.Errorf("ELF: %w", err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return info, errors.New("no section .modinfo: not a kernel module")
	}
	if s.Size > uint64(len(data)) {
		return info, fmt.Errorf(".modinfo of %d bytes in a file of %d", s.Size, len(data))
	}
	text, err := s.Data()
	if err != nil {
		return info, fmt.Errorf(".modinfo: %w", err)
	}
	return parseModinfo(text), nil
}

func parseModinfo(text []byte) modinfo {
	var info modinfo
	for _, line := range strings.Split(string(text), "\x00") {
		key, value, ok := strings.Cut(line, "=")
		if !ok || value == "" {
			continue
		}
		switch key {
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					info.depends = append(info.depends, underscores(name))
				}
			}
		case "softdep":
			pre, post := parseSoftdep(value)
			info.pre = append(info.pre, pre...)
			info.post = append(info.post, post...)
			info.softdeps = append(info.softdeps, value)
		case "alias":
			info.aliases = append(info.aliases, value)
		case "firmware":
			info.firmware = append(info.firmware, value)
		}
	}
	return info
}

// parseSoftdep reads "pre: a b post: c".
func parseSoftdep(value string) (pre, post []string) {
	var to *[]string
	for _, word := range strings.Fields(value) {
		switch word {
		case "pre:":
			to = &pre
		case "post:":
			to = &post
		default:
			if to != nil {
				*to = append(*to, underscores(word))
			}
		}
	}
	return pre, post
}
