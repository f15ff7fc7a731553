package recipes

import (
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
)

// testsFile is a file with tests for an image that is there.
type testsFile struct {
	Tests []Test `json:"tests" doc:"What to test, in this order." required:"true"`
}

// LoadTests reads a file with tests for an image that is there: the key tests, as a recipe has it. What is wrong with
// the file is returned as [Errors], or as an [*Error] that wraps the cause where it cannot be read.
func LoadTests(path string, opts Options) ([]Test, error) {
	if opts.ReadFile == nil {
		opts.ReadFile = readFile
	}
	path = filepath.Clean(path)
	data, err := opts.ReadFile(path)
	if err != nil {
		return nil, &Error{Position: Position{File: path}, What: "the tests cannot be read: " + reason(err), Do: "check the path", Err: err}
	}
	if len(data) > maxFileSize {
		return nil, Errors{{Position: Position{File: path}, What: "the file is larger than 4 MiB", Do: "write several files"}}
	}
	var yaml reader
	root, err := yaml.read(data, func(line, column int) Position { return Position{path, line, column} })
	if err != nil {
		return nil, err
	}
	shape(root, reflect.TypeFor[testsFile](), field{})
	var file testsFile
	d := decoder{positions: map[string]Position{}, top: Position{File: path, Line: 1, Column: 1}}
	d.value(root, reflect.ValueOf(&file).Elem(), field{}, "")
	if len(d.problems) == 0 {
		c := checker{recipe: &Recipe{Tests: file.Tests, file: path, positions: d.positions}}
		c.recipe.fillTests()
		c.tests()
		d.problems = c.problems
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b *Error) int { return comparePositions(path, a.Position, b.Position) })
		return nil, d.problems
	}
	return file.Tests, nil
}

// fillTests gives what was left out of the tests its default.
func (r *Recipe) fillTests() {
	disks := 0
	for i := range r.Tests {
		t := &r.Tests[i]
		if t.Unit != nil && t.Unit.State == "" {
			t.Unit.State = "active"
		}
		if t.Port != nil && t.Port.Protocol == "" {
			t.Port.Protocol = "tcp"
		}
		if t.File != nil && t.File.Owner.User != "" && t.File.Owner.Group == "" {
			t.File.Owner.Group = t.File.Owner.User
		}
		if t.BootTime != nil && t.BootTime.Target == "" {
			t.BootTime.Target = "multi-user.target"
		}
		if s := t.SSH; s != nil {
			if s.Run == "" {
				s.Run = "true"
			}
			if s.Port == 0 {
				s.Port = 22
			}
		}
		if t.AddDisk != nil {
			if disks++; t.AddDisk.Name == "" {
				t.AddDisk.Name = "disk" + strconv.Itoa(disks)
			}
		}
		if t.GrowDisk != nil && t.GrowDisk.Disk == "" {
			t.GrowDisk.Disk = SystemDisk
		}
		if t.Corrupt != nil {
			t.Corrupt.fill()
		}
	}
}

func (s *CorruptStep) fill() {
	if s.Disk == "" {
		s.Disk = SystemDisk
	}
	if s.Length == 0 {
		s.Length = CorruptBlock
	}
}
