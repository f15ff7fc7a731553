package docker

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layer"
	"github.com/applbuild/applbuild/rootfs/tree"
)

var clock = time.Unix(1700000000, 0).UTC()

func need(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: run as an ordinary user: layers and docker's data-root are root's")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: the program %s is not installed on this machine", p)
		}
	}
}

// An entry is one file of a test's archive.
type entry struct {
	name  string
	kind  byte // tar.TypeReg is the default
	mode  int64
	data  string
	link  string
	uid   int
	major int64
	minor int64
	xattr string // NAME=VALUE
}

func dir(name string, mode int64) entry { return entry{name: name, kind: tar.TypeDir, mode: mode} }
func file(name, data string) entry      { return entry{name: name, mode: 0o644, data: data} }
func link(name, target string) entry {
	return entry{name: name, kind: tar.TypeSymlink, mode: 0o777, link: target}
}

// makeTar makes an archive.
func makeTar(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, e := range entries {
		h := &tar.Header{
			Typeflag: e.kind, Name: e.name, Mode: e.mode, Linkname: e.link, Size: int64(len(e.data)),
			Uid: e.uid, Gid: e.uid, Devmajor: e.major, Devminor: e.minor,
			ModTime: clock.Add(-time.Duration(i+1) * time.Hour), Format: tar.FormatPAX,
		}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if key, value, ok := strings.Cut(e.xattr, "="); ok {
			h.PAXRecords = map[string]string{"SCHILY.xattr." + key: value}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A made is an image with the archives of its layers.
type made struct {
	Image
	archives [][]byte
}

// image makes an image whose containers run argv.
func image(t *testing.T, names string, argv []string, archives ...[]byte) made {
	t.Helper()
	type descriptor struct {
		MediaType string            `json:"mediaType"`
		Digest    containers.Digest `json:"digest"`
		Size      int               `json:"size"`
	}
	var diffIDs []containers.Digest
	var layers []descriptor
	for _, a := range archives {
		diffIDs = append(diffIDs, containers.DigestOf(a))
		layers = append(layers, descriptor{containers.TypeOCILayer, containers.DigestOf(a), len(a)})
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": clock.Format(time.RFC3339),
		"config": map[string]any{"Cmd": argv, "Labels": map[string]string{"says": `"diff_ids":["x"]`}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": containers.TypeOCIManifest,
		"config": descriptor{containers.TypeOCIConfig, containers.DigestOf(config), len(config)}, "layers": layers,
	})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := containers.Parse(manifest, "", config)
	if err != nil {
		t.Fatal(err)
	}
	return made{Image{parsed, strings.Fields(names)}, archives}
}

// unpacked are the images' layers as the package layer gives them.
func unpacked(t *testing.T, all []made) ([]Image, map[containers.Digest]Layer) {
	t.Helper()
	layers := map[containers.Digest]Layer{}
	var images []Image
	for _, m := range all {
		images = append(images, m.Image)
		for i, a := range m.archives {
			var archive, split bytes.Buffer
			l := m.Layers[i]
			if _, err := layer.Unpack(t.Context(), bytes.NewReader(a), l, &archive, &split, layer.DefaultLimits()); err != nil {
				t.Fatal(err)
			}
			files, err := layer.Index(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
			if err != nil {
				t.Fatal(err)
			}
			layers[l.DiffID] = Layer{TarSplit: split.Bytes(), Tree: files}
		}
	}
	return images, layers
}

// A machine is a folder with what the verity root has of images, and docker's
// data-root.
type machine struct {
	dir string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{t.TempDir()}
	// Nobody cuts the power here, and a busy disk takes long.
	if err := errors.Join(os.Mkdir(m.bin(), 0o755), os.WriteFile(m.bin()+"/sync", []byte("#!/bin/sh\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m machine) bin() string { return filepath.Join(m.dir, "bin") }

func (m machine) store() string    { return filepath.Join(m.dir, "store") }
func (m machine) dataRoot() string { return filepath.Join(m.dir, "docker") }

// install makes the images those of the system, in place of those of before.
func (m machine) install(t *testing.T, all ...made) {
	t.Helper()
	images, layers := unpacked(t, all)
	whole := tree.New()
	if err := (Store{Prefix: m.store(), DataRoot: m.dataRoot()}).Write(whole, images, layers); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.store()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := below(t, whole, strings.Trim(m.store(), "/")).WriteTar(t.Context(), &b, clock); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.store(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tree.Extract(t.Context(), &b, m.store()); err != nil {
		t.Fatal(err)
	}
}

// below is the part of a tree below a folder.
func below(t *testing.T, whole *tree.Tree, prefix string) *tree.Tree {
	t.Helper()
	part := tree.New()
	err := whole.Walk(func(e *tree.Entry) error {
		moved := *e
		switch rest, ok := strings.CutPrefix(e.Path, prefix+"/"); {
		case ok:
			moved.Path = rest
		case e.Path == prefix:
			moved.Path = "."
		default:
			return nil
		}
		moved.Linkname = strings.TrimPrefix(e.Linkname, prefix+"/")
		return part.Put(&moved)
	})
	if err != nil {
		t.Fatal(err)
	}
	return part
}

// boot runs the program as the unit does, with the programs that path has.
func (m machine) boot(t *testing.T, path string) (string, error) {
	t.Helper()
	c := exec.Command("sh", "files/docker-images", m.store(), m.dataRoot())
	c.Env = append(os.Environ(), "PATH="+path)
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

func (m machine) mustBoot(t *testing.T) string {
	t.Helper()
	out, err := m.boot(t, m.bin()+":"+os.Getenv("PATH"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// listing says one line of each file below the data-root: path, type, mode,
// what it leads to or has in it.
func (m machine) listing(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.dataRoot(), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(m.dataRoot(), path)
		fmt.Fprintf(&b, "%s %s", name, info.Mode())
		switch {
		case d.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", target)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (m machine) write(t *testing.T, name, data string) {
	t.Helper()
	name = filepath.Join(m.dataRoot(), name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m machine) has(name string) bool {
	_, err := os.Stat(filepath.Join(m.dataRoot(), name))
	return err == nil
}

func (m machine) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.dataRoot(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// same compares listings line by line.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("%s: too much: %s", what, line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("%s: missing: %s", what, line)
		}
	}
}
