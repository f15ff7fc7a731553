package cidata

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"testing"
)

// fuzzFiles are what a fuzzed seed file can name.
func fuzzFiles(data []byte) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		switch name {
		case "seed.yml":
			return data, nil
		case "u":
			return []byte("#!/bin/sh\n"), nil
		case "k":
			return []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID9oaUF/SaHhu3KFeh8PM9t0oTkpCyDTdjmuS/i4GJQ3 me\n"), nil
		}
		return nil, fs.ErrNotExist
	}
}

// Whatever a seed file holds: it is refused with a place, or makes a seed that is sound, the same each time, and read
// back equal.
func FuzzSeedFile(f *testing.F) {
	for _, name := range []string{"testdata/web/seed.yml", "testdata/parts/seed.yml"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, c := range refused {
		if text, ok := c.input.files["seed.yml"]; ok {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte("users: [{name: a, ssh_key_files: k}]\nuser_data: [u, u]\nfiles: [{path: /a, content: \" \\n\\t a\\n\"}, {path: /b, content: \"\\n  a\\n\\n\"}, {path: /c, content: 'yes'}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := LoadOptions{readFile: fuzzFiles(data)}
		s, err := Load("seed.yml", o)
		if err != nil {
			var wrong *Error
			if !errors.As(err, &wrong) || wrong.Position.File == "" {
				t.Fatalf("refused without a place: %v", err)
			}
			return
		}
		again, err := Load("seed.yml", o)
		if err != nil || !s.Same(again) {
			t.Fatalf("the second time: %v", err)
		}
		if in := s.Inspect(); len(in.Problems) > 0 || len(in.Secrets) > 0 || in.InstanceID == "" {
			t.Fatalf("the seed is not sound: %v %v\n%s", in.Problems, in.Secrets, show(s))
		}
		for form, write := range map[string]func(io.Writer) error{FormatISO: s.WriteISO, FormatVFAT: s.WriteVFAT} {
			var image bytes.Buffer
			if err := write(&image); err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			back, err := Read(bytes.NewReader(image.Bytes()), int64(image.Len()))
			if err != nil || !back.Same(s) {
				t.Fatalf("%s read back: %v", form, err)
			}
		}
	})
}

// Whatever user-data holds: what Load takes is passed byte for byte, and Inspect finds it sound.
func FuzzUserData(f *testing.F) {
	for _, c := range refused {
		if text, ok := c.input.files["u"]; ok {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Load("", LoadOptions{Settings: Settings{UserData: []string{"seed.yml"}}, readFile: fuzzFiles(data)})
		if err != nil {
			return
		}
		if got, _ := s.File(UserData); !bytes.Equal(got, data) {
			t.Fatalf("%q became %q", data, got)
		}
		if in := s.Inspect(); len(in.Problems) > 0 || len(in.Secrets) > 0 {
			t.Fatalf("the seed is not sound: %v %v", in.Problems, in.Secrets)
		}
	})
}

// Whatever a seed's image holds: reading ends, and what was read can be looked into.
func FuzzRead(f *testing.F) {
	s, err := Load("testdata/parts/seed.yml", LoadOptions{})
	if err != nil {
		f.Fatal(err)
	}
	var iso, vfat bytes.Buffer
	if err := errors.Join(s.WriteISO(&iso), s.WriteVFAT(&vfat)); err != nil {
		f.Fatal(err)
	}
	for _, data := range [][]byte{iso.Bytes(), vfat.Bytes(), tarball(f, s, "")} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		in := s.Inspect()
		if !slices.IsSortedFunc(in.Files, func(a, b InspectedFile) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) }) {
			t.Fatalf("files %v", in.Files)
		}
	})
}
