package builder

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/output"
	"github.com/applbuild/applbuild/builder/verity"
)

// ErrDamaged says that an image is not what it was when it was built.
var ErrDamaged = errors.New("the image is damaged")

// Verification is what was looked at and what was found wrong.
type Verification struct {
	Image    string   `json:"image"`
	Checked  []string `json:"checked"`
	Problems []string `json:"problems"`
}

// Err is nil where nothing is wrong, else matches ErrDamaged and names the
// first problem.
func (v *Verification) Err() error {
	switch len(v.Problems) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s: %w: %s", v.Image, ErrDamaged, v.Problems[0])
	}
	return fmt.Errorf("%s: %w: %s (and %d more)", v.Image, ErrDamaged, v.Problems[0], len(v.Problems)-1)
}

func (v *Verification) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

func (v *Verification) checked(format string, args ...any) {
	v.Checked = append(v.Checked, fmt.Sprintf(format, args...))
}

// Verify checks a disk image: the partition table in both places, the root hash
// in the unified kernel image against every block of root and hash tree, and
// the digests beside it.
func Verify(ctx context.Context, name string) (*Verification, error) {
	v := &Verification{Image: name}
	m, err := openImage(name)
	if err != nil {
		return nil, err
	}
	defer m.f.Close()
	for _, p := range m.table.Problems {
		v.problem("%s", p)
	}
	v.checked("GPT: both headers, %d partitions", len(m.table.Partitions))
	hash, err := v.rootHash(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := v.root(ctx, m, hash); err != nil {
		return nil, err
	}
	return v, v.sums(ctx, name)
}

// rootHash takes the root hash out of the unified kernel images; all must have
// the same.
func (v *Verification) rootHash(ctx context.Context, m *image) (string, error) {
	kernels, err := m.kernels(ctx)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		v.problem("%v", err)
		return "", nil
	}
	if _, hasESP := m.find("esp"); hasESP && len(kernels) == 0 {
		v.problem("the EFI system partition has no unified kernel image")
	}
	found := ""
	for _, k := range kernels {
		cmdline, err := k.file.Cmdline()
		if err != nil {
			v.problem("%s: %v", k.path, err)
			continue
		}
		hash, ok := rootHashOf(cmdline)
		if !ok {
			continue
		}
		if found != "" && found != hash {
			v.problem("%s has root hash %s, another image of the partition %s", k.path, hash, found)
		}
		found = hash
		v.checked("%s: root hash %s", k.path, hash)
	}
	return found, nil
}

// root checks the root partition against its hash tree, and both against the
// root hash; without one in a kernel, that beside the image counts.
func (v *Verification) root(ctx context.Context, m *image, text string) error {
	data, hasRoot := findRoot(m, "")
	hashes, hasHashes := findRoot(m, "-verity")
	if !hasRoot || !hasHashes {
		if text != "" {
			v.problem("the kernel's command line has a root hash, but root and root-verity partitions are not both there")
		}
		return nil
	}
	if text == "" {
		beside, err := os.ReadFile(strings.TrimSuffix(v.Image, filepath.Ext(v.Image)) + ".roothash")
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		text = strings.TrimSpace(string(beside))
	}
	hash, err := hex.DecodeString(text)
	if err != nil || len(hash) != 0 && len(hash) != 32 {
		v.problem("root hash %q is none: 64 hexadecimal digits are", text)
		hash = nil
	}
	if len(hash) > 0 {
		rootID, hashID, err := verity.RootUUIDs(hash)
		if err != nil {
			return err
		}
		if rootID != data.UUID {
			v.problem("partition %d (%s): its UUID %s is not the first half of the root hash", data.Index, data.Label, data.UUID)
		}
		if hashID != hashes.UUID {
			v.problem("partition %d (%s): its UUID %s is not the second half of the root hash", hashes.Index, hashes.Label, hashes.UUID)
		}
	}
	err = verity.Verify(ctx, m.section(data), data.Size, m.section(hashes), hashes.Size, hash)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		v.Problems = append(v.Problems, verityError(data, hashes, err)...)
	}
	v.checked("verity: every block of partitions %d (%s) and %d (%s)", data.Index, data.Label, hashes.Index, hashes.Label)
	return nil
}

// findRoot finds the root partition of any architecture, or with a suffix that
// of its hash tree.
func findRoot(m *image, suffix string) (disk.Entry, bool) {
	for _, arch := range []string{"x86-64", "arm64"} {
		if e, ok := m.find("root-" + arch + suffix); ok {
			return e, true
		}
	}
	return disk.Entry{}, false
}

// sums checks the digests of the image's files where there are any.
func (v *Verification) sums(ctx context.Context, name string) error {
	dir, base := filepath.Split(name)
	if dir == "" {
		dir = "."
	}
	stem := strings.TrimSuffix(base, filepath.Ext(base)) + "."
	files, err := output.Verify(ctx, dir, func(name string) bool { return strings.HasPrefix(name, stem) })
	if errors.Is(err, iofs.ErrNotExist) && len(files) == 0 && !isSumError(err) {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			v.problem("%s", line)
		}
	}
	v.checked("%s: %d files", output.SumsName, len(files))
	return nil
}

func isSumError(err error) bool {
	var sum *output.SumError
	return errors.As(err, &sum)
}
