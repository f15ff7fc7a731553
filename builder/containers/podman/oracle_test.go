package podman

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// need skips a test that the machine's programs answer, which takes seconds.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("asks skopeo, podman and mounts, which takes seconds")
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: run as an ordinary user: stores of podman are made by root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: the program %s is not installed on this machine", p)
		}
	}
}

// run runs a program, which must succeed, with mounts of its own.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := try(argv...)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return out
}

func try(argv ...string) (string, error) {
	c := exec.Command("unshare", append([]string{"-m", "--"}, argv...)...)
	c.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "STORAGE_DRIVER=overlay")
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, said.String())
	}
	return out.String(), nil
}

// skopeoStore is the oracle: what skopeo makes of the images.
func skopeoStore(t *testing.T, layoutPath string, all []named) string {
	t.Helper()
	root := t.TempDir()
	for _, n := range all {
		run(t, "skopeo", "--insecure-policy", "copy", "-q", "oci:"+layoutPath+":"+n.name,
			"containers-storage:[overlay@"+root+"+"+root+"-run]"+n.name)
	}
	t.Cleanup(func() { os.RemoveAll(root + "-run") })
	return root
}

// ownStore writes the images with this package.
func ownStore(t *testing.T, store Store, all []named) string {
	t.Helper()
	list, layers := unpacked(t, all)
	store.Prefix, store.Clock = "store", clock
	made := tree.New()
	if err := store.Write(made, list, layers); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	extract(t, made, root)
	return filepath.Join(root, "store")
}

func extract(t *testing.T, made *tree.Tree, root string) {
	t.Helper()
	var b bytes.Buffer
	if err := made.WriteTar(t.Context(), &b, clock); err != nil {
		t.Fatal(err)
	}
	if err := tree.Extract(t.Context(), &b, root); err != nil {
		t.Fatal(err)
	}
}

// summary says one line of each file below root: type, mode, owner, time,
// attributes, content. Folders have no time unless withTimes says so, because
// containers/storage leaves that of making where an archive has none.
func summary(t *testing.T, root string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%06o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Rdev)
		if st.Mtim.Sec <= clock.Unix() {
			line += fmt.Sprintf(" time %d", st.Mtim.Sec)
		}
		for key, value := range attributes(t, path) {
			line += fmt.Sprintf(" %s=%x", key, value)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(data))
			if st.Nlink > 1 {
				if inodes[st.Ino] == "" {
					inodes[st.Ino] = name
				}
				line += " inode of " + inodes[st.Ino]
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		lines[name] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// attributes reads extended attributes, sorted, in the order of a loop.
func attributes(t *testing.T, path string) map[string]string {
	t.Helper()
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "" || name == userOpaque {
			continue // which skopeo run by root does not set
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(value[:n])
	}
	return all
}

const userOpaque = "user.overlay.opaque"

func readJSON[T any](t *testing.T, path string) []T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return list
}

// TestStoreEqualsSkopeos compares all that is kept with what skopeo writes.
func TestStoreEqualsSkopeos(t *testing.T) {
	need(t, "skopeo", "unshare")
	all := images(t)
	want := skopeoStore(t, writeLayout(t, all), all)
	got := ownStore(t, Store{}, all)
	compareImages(t, got, want)
	compareLayers(t, got, want)
}

func compareImages(t *testing.T, got, want string) {
	t.Helper()
	sortImages := func(list []imageRecord) []imageRecord {
		slices.SortFunc(list, func(a, b imageRecord) int { return cmp.Compare(a.ID, b.ID) })
		return list
	}
	a := sortImages(readJSON[imageRecord](t, got+"/overlay-images/images.json"))
	b := sortImages(readJSON[imageRecord](t, want+"/overlay-images/images.json"))
	if len(a) != len(b) {
		t.Fatalf("%d images, skopeo has %d", len(a), len(b))
	}
	for i := range a {
		x, _ := json.Marshal(a[i])
		y, _ := json.Marshal(b[i])
		if !bytes.Equal(x, y) {
			t.Errorf("image\n%s\nskopeo:\n%s", x, y)
		}
		for _, name := range a[i].DataNames {
			path := "/overlay-images/" + a[i].ID + "/" + dataName(name)
			x, err := os.ReadFile(got + path)
			if err != nil {
				t.Error(err)
			}
			y, err := os.ReadFile(want + path)
			if err != nil {
				t.Error(err)
			}
			if !bytes.Equal(x, y) {
				t.Errorf("%s differs", path)
			}
		}
	}
}

func compareLayers(t *testing.T, got, want string) {
	t.Helper()
	byID := func(root string) map[string]layerRecord {
		all := map[string]layerRecord{}
		for _, l := range readJSON[layerRecord](t, root+"/overlay-layers/layers.json") {
			all[l.ID] = l
		}
		return all
	}
	a, b := byID(got), byID(want)
	if x, y := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)); !slices.Equal(x, y) {
		t.Fatalf("layers\n%s\nskopeo:\n%s", x, y)
	}
	twins := map[containers.Digest]int{}
	for _, l := range a {
		twins[l.DiffDigest]++
	}
	for id, l := range a {
		l.Created = b[id].Created // when skopeo ran
		if twins[l.DiffDigest] > 1 {
			// Skopeo may have taken it out of another layer instead of the blob.
			l.CompressedSize, l.Compression = b[id].CompressedSize, b[id].Compression
		}
		x, _ := json.Marshal(l)
		y, _ := json.Marshal(b[id])
		if !bytes.Equal(x, y) {
			t.Errorf("layer\n%s\nskopeo:\n%s", x, y)
		}
		split := "/overlay-layers/" + id + ".tar-split.gz"
		if x, y := gunzip(t, got+split), gunzip(t, want+split); x != emptySegment.ReplaceAllString(y, "") {
			t.Errorf("tar-split of %s differs", id)
		}
		compareFiles(t, summary(t, got+"/overlay/"+id+"/diff"), summary(t, want+"/overlay/"+id+"/diff"))
		if x, y := lowers(t, got, id), lowers(t, want, id); !slices.Equal(x, y) {
			t.Errorf("%s lies on\n%s\nskopeo:\n%s", id, x, y)
		}
		for _, name := range []string{"", "empty", "merged", "work", "link", "lower"} {
			_, err := os.Lstat(got + "/overlay/" + id + "/" + name)
			_, other := os.Lstat(want + "/overlay/" + id + "/" + name)
			if (err == nil) != (other == nil) {
				t.Errorf("%s/%s: %v, skopeo: %v", id, name, err, other)
			}
		}
	}
}

// Early versions of tar-split end with a segment that has nothing in it.
var emptySegment = regexp.MustCompile(`\{"type":2,"payload":"","position":[0-9]+\}\n$`)

func gunzip(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("gzip", "-dc", path).Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(out)
}

// lowers are the ids that a layer's lower file names by way of links.
func lowers(t *testing.T, root, id string) []string {
	t.Helper()
	data, err := os.ReadFile(root + "/overlay/" + id + "/lower")
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for link := range strings.SplitSeq(string(data), ":") {
		target, err := os.Readlink(root + "/overlay/" + link)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, filepath.Base(filepath.Dir(target)))
	}
	return ids
}

func compareFiles(t *testing.T, got, want map[string]string) {
	t.Helper()
	names := map[string]bool{}
	for name := range got {
		names[name] = true
	}
	for name := range want {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, y := got[name], want[name]
		if !strings.Contains(y, " time ") {
			x = withoutTime(x)
		}
		if x != y {
			t.Errorf("%s:\n%s\nskopeo:\n%s", name, x, y)
		}
	}
}

func withoutTime(line string) string {
	before, rest, found := strings.Cut(line, " time ")
	if !found {
		return line
	}
	_, after, _ := strings.Cut(rest, " ")
	return strings.TrimSuffix(before+" "+after, " ")
}
