// Package fstest has what the tests of writers of file systems share: trees,
// the programs that judge images, and mounts. Nothing but tests imports it.
package fstest

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/member"
	"github.com/google/uuid"
)

// What images are made with.
var (
	Clock = time.Unix(1700000000, 0)
	ID    = uuid.MustParse("6b1f2a4c-0d3e-4f5a-8b7c-9d0e1f2a3b4c")
)

// Memory is a tree in memory.
type Memory []Member

// Member is a file and its contents.
type Member struct {
	tar.Header
	Data []byte
}

func (m Memory) WriteTar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, e := range m {
		h := e.Header
		h.Size = int64(len(e.Data))
		h.Format = tar.FormatPAX
		if h.ModTime.IsZero() {
			h.ModTime = Clock.Add(-time.Hour)
		}
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := tw.Write(e.Data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// Dir is a directory.
func Dir(name string) Member {
	return Member{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}}
}

// File is a file of n bytes.
func File(name string, n int) Member {
	return Member{Header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, Data: Noise(n)}
}

// Repeated is a tree with large files that take no memory here.
type Repeated []int64

func (l Repeated) WriteTar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for i, n := range l {
		if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg, Mode: 0o644, Size: n, ModTime: Clock, Format: tar.FormatPAX}); err != nil {
			return err
		}
		block := make([]byte, 1<<20)
		for at := int64(0); at < n; at += int64(len(block)) {
			// Most of it is zeros, which stay holes of the image.
			copy(block, fmt.Sprintf("file %d at %d", i, at))
			if _, err := tw.Write(block[:min(n-at, int64(len(block)))]); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

// Broken is a tree that ends in the middle, with an error.
type Broken struct{ Err error }

func (b Broken) WriteTar(ctx context.Context, w io.Writer) error {
	for _, e := range Zoo()[:3] {
		if err := (Memory{e}).WriteTar(ctx, w); err != nil {
			return err
		}
	}
	return b.Err
}

// capNetRaw is the value of security.capability for cap_net_raw=ep.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Noise returns n bytes that no program compresses, the same each time.
func Noise(n int) []byte {
	b := make([]byte, 0, n+32)
	for sum := sha256.Sum256([]byte("noise")); len(b) < n; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// Zoo is a tree with one of everything.
func Zoo() Memory {
	long := strings.Repeat("n", 254) // mkfs.erofs 1.5 cannot have 255
	deep := "deep"
	m := Memory{
		{Header: tar.Header{Name: "bin", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "bin/su", Typeflag: tar.TypeReg, Mode: 0o4755}, Data: Noise(70000)},
		{Header: tar.Header{Name: "bin/ping", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": capNetRaw, "SCHILY.xattr.user.note": "a b"}}, Data: []byte("ping")},
		{Header: tar.Header{Name: "bin/wall", Typeflag: tar.TypeReg, Mode: 0o2755, Gid: 5}, Data: []byte("wall\n")},
		{Header: tar.Header{Name: "bin/sudo", Typeflag: tar.TypeLink, Linkname: "bin/su"}},
		{Header: tar.Header{Name: "deep", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "dev", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Name: "dev/vda", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 254, Devminor: 300}},
		{Header: tar.Header{Name: "empty", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 1000, Gid: 1001}},
		{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o640}},
		{Header: tar.Header{Name: "here", Typeflag: tar.TypeSymlink, Linkname: "bin/su", Mode: 0o777}},
		{Header: tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "../" + strings.Repeat("x/", 100), Mode: 0o777}},
		{Header: tar.Header{Name: long, Typeflag: tar.TypeReg, Mode: 0o644, Uid: 300000, Gid: 70000}, Data: []byte("long")},
		{Header: tar.Header{Name: "odd", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 42, Gid: 43, ModTime: time.Unix(1234567890, 0)}},
		{Header: tar.Header{Name: "odd/-f", Typeflag: tar.TypeReg, Mode: 0o644}, Data: []byte("dash")},
		{Header: tar.Header{Name: "odd/<12>", Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, Data: []byte("number")},
		{Header: tar.Header{Name: "odd/a \"quoted\" name", Typeflag: tar.TypeReg, Mode: 0o644}, Data: []byte("quotes")},
		{Header: tar.Header{Name: "odd/back\\slash $HOME `id`", Typeflag: tar.TypeReg, Mode: 0o644}, Data: []byte("shell")},
		{Header: tar.Header{Name: "odd/größe", Typeflag: tar.TypeReg, Mode: 0o644}, Data: []byte("utf-8")},
		{Header: tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o644}, Data: append(make([]byte, 3<<20), "end"...)},
	}
	for range 40 {
		deep += "/d"
		m = append(m, Member{Header: tar.Header{Name: deep, Typeflag: tar.TypeDir, Mode: 0o755}})
	}
	m = append(m, Member{Header: tar.Header{Name: deep + "/leaf", Typeflag: tar.TypeReg, Mode: 0o644}, Data: Noise(5000)},
		Member{Header: tar.Header{Name: "many", Typeflag: tar.TypeDir, Mode: 0o700}})
	for i := range 400 {
		m = append(m, Member{Header: tar.Header{Name: fmt.Sprintf("many/file-with-a-longer-name-%04d", i), Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1600000000+int64(i), 0)}, Data: Noise(i)})
	}
	return m
}

// Summary is what a tree should look like: path → one line with all there is
// to compare.
func (m Memory) Summary() map[string]string {
	s := map[string]string{}
	byName := map[string]Member{}
	for _, e := range m {
		byName[e.Name] = e
		name := e.Name
		if e.Typeflag == tar.TypeLink {
			e = byName[e.Linkname]
		}
		at := e.ModTime
		if at.IsZero() {
			at = Clock.Add(-time.Hour)
		}
		line := fmt.Sprintf("%c %04o %d:%d %d", e.Typeflag, e.Mode, e.Uid, e.Gid, at.Unix())
		switch e.Typeflag {
		case tar.TypeReg:
			sum := sha256.Sum256(e.Data)
			line += " " + hex.EncodeToString(sum[:8])
		case tar.TypeSymlink:
			line += " -> " + e.Linkname
		case tar.TypeChar, tar.TypeBlock:
			line += fmt.Sprintf(" %d,%d", e.Devmajor, e.Devminor)
		}
		for _, k := range slices.Sorted(maps.Keys(e.PAXRecords)) {
			line += fmt.Sprintf(" %s=%x", strings.TrimPrefix(k, member.XattrRecord), e.PAXRecords[k])
		}
		s[name] = line
	}
	return s
}
