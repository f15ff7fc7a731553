package docker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
)

// web and db share their lowest layer; web has one of them twice.
func webAndDB(t *testing.T) (web, db made) {
	t.Helper()
	base := makeTar(t, dir("bin/", 0o755), file("bin/sh", "shell"), file("etc/motd", "old"))
	top := makeTar(t, file("etc/.wh.motd", ""), file("srv/page", "web"))
	web = image(t, "registry.example.com:5000/web:1.4 docker.io/library/web:latest", []string{"/bin/sh"}, base, top, top)
	db = image(t, "docker.io/user/db@sha256:"+strings.Repeat("ab", 32), nil, base, makeTar(t, file("srv/data", "db")))
	return web, db
}

// chains are docker's ids of an image's layers.
func (m made) chains() []string {
	var ids []string
	var chain containers.Digest
	for _, l := range m.Layers {
		chain = ChainID(chain, l.DiffID)
		ids = append(ids, chain.Hex())
	}
	return ids
}

const (
	repositories = "image/overlay2/repositories.json"
	contentDir   = "image/overlay2/imagedb/content/sha256"
)

func TestDataRootGetsTheImagesAtTheFirstBootAndAfterAWipe(t *testing.T) {
	need(t)
	m := newMachine(t)
	web, db := webAndDB(t)
	m.install(t, web, db)
	if said := m.mustBoot(t); said != "" {
		t.Errorf("it said %s", said)
	}
	first := m.listing(t)
	for _, img := range []made{web, db} {
		if !m.has(contentDir + "/" + img.ID.Hex()) {
			t.Errorf("%s is not there", img.ID)
		}
		for _, id := range img.chains() {
			for _, name := range []string{"overlay2/" + id + "/diff/.", "overlay2/" + id + "/committed", layerDir + "/" + id + "/tar-split.json.gz"} {
				if !m.has(name) {
					t.Errorf("%s is not there", name)
				}
			}
			if !m.has("overlay2/l/" + m.read(t, "overlay2/"+id+"/link") + "/.") {
				t.Errorf("the short name of %s leads nowhere", id)
			}
		}
	}
	want := fmt.Sprintf(`{"Repositories":{"registry.example.com:5000/web":{"registry.example.com:5000/web:1.4":%q},`+
		`"user/db":{"user/db@sha256:%s":%q},"web":{"web:latest":%[1]q}}}`, web.ID, strings.Repeat("ab", 32), db.ID)
	if got := m.read(t, repositories); got != want {
		t.Errorf("names\n%s\nwant\n%s", got, want)
	}
	if err := os.RemoveAll(m.dataRoot()); err != nil {
		t.Fatal(err)
	}
	m.mustBoot(t)
	same(t, "after a wipe", m.listing(t), first)
}

func TestAFurtherBootWritesNothing(t *testing.T) {
	need(t)
	m := newMachine(t)
	web, db := webAndDB(t)
	m.install(t, web, db)
	m.mustBoot(t)
	before := m.listing(t)
	// Whatever the program would change with is not there.
	if _, err := m.boot(t, onlyReading(t)); err != nil {
		t.Errorf("second boot: %v", err)
	}
	same(t, "second boot", m.listing(t), before)
}

// onlyReading is a folder with the programs that change nothing.
func onlyReading(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"cat", "tr", "sort", "mkdir", "sha256sum"} {
		if err := os.Symlink("/usr/bin/"+name, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func TestWhatWasRemovedComesBack(t *testing.T) {
	need(t)
	m := newMachine(t)
	web, db := webAndDB(t)
	m.install(t, web, db)
	m.mustBoot(t)
	before := m.listing(t)
	// As `docker rmi` does it, the power cut in the middle.
	top := db.chains()[1]
	remove(t, m, imageDir+"/"+db.ID.Hex())
	remove(t, m, contentDir+"/"+db.ID.Hex())
	remove(t, m, "overlay2/l/"+m.read(t, "overlay2/"+top+"/link"))
	rename(t, filepath.Join(m.dataRoot(), layerDir, top), filepath.Join(m.dataRoot(), layerDir, top+"-0123-removing"))
	m.write(t, repositories, `{"Repositories":{}}`)
	m.mustBoot(t)
	same(t, "after the boot", m.listing(t), before)
}

func remove(t *testing.T, m machine, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(m.dataRoot(), name)); err != nil {
		t.Fatal(err)
	}
}

func TestAnUpdateReplacesTheImagesOfBefore(t *testing.T) {
	need(t)
	web, db := webAndDB(t)
	next := image(t, "docker.io/library/web:latest", nil, makeTar(t, file("srv/page", "new")))
	fresh, m := newMachine(t), newMachine(t)
	fresh.install(t, next)
	fresh.mustBoot(t)
	m.install(t, web, db)
	m.mustBoot(t)
	m.install(t, next)
	m.mustBoot(t)
	same(t, "after an update", m.listing(t), strings.ReplaceAll(fresh.listing(t), fresh.dir, m.dir))
	m.install(t) // and then none at all
	m.mustBoot(t)
	if got := m.read(t, repositories); got != `{"Repositories":{}}` {
		t.Errorf("names of no image: %s", got)
	}
	for _, dir := range []string{layerDir, contentDir, "overlay2/l"} {
		if left, _ := os.ReadDir(filepath.Join(m.dataRoot(), dir)); len(left) != 0 {
			t.Errorf("%s has still %v", dir, left)
		}
	}
}

func TestANameThatTheSystemNoLongerGivesIsGone(t *testing.T) {
	need(t)
	m := newMachine(t)
	web, _ := webAndDB(t)
	m.install(t, web)
	m.mustBoot(t)
	m.write(t, repositories, strings.Replace(m.read(t, repositories), `"web":{`, fmt.Sprintf(`"mine":{"mine:1":%q},"web":{`, web.ID), 1))
	web.Names = web.Names[:1]
	m.install(t, web)
	m.mustBoot(t)
	want := fmt.Sprintf(`{"Repositories":{"mine":{"mine:1":%q},"registry.example.com:5000/web":{"registry.example.com:5000/web:1.4":%[1]q}}}`, web.ID)
	if got := m.read(t, repositories); got != want {
		t.Errorf("names\n%s\nwant\n%s", got, want)
	}
}

// pull puts an image into the data-root as docker does, where its layers are
// not there yet.
func (m machine) pull(t *testing.T, img made, name string) {
	t.Helper()
	var parent string
	for i, id := range img.chains() {
		if !m.has(layerDir + "/" + id) {
			cache := fmt.Sprintf("%063d%d", 7, i)
			m.write(t, "overlay2/"+cache+"/diff/file", "pulled")
			m.write(t, "overlay2/"+cache+"/link", "SHORT")
			m.write(t, layerDir+"/"+id+"/cache-id", cache)
			m.write(t, layerDir+"/"+id+"/diff", string(img.Layers[i].DiffID))
			m.write(t, layerDir+"/"+id+"/size", "6")
			if parent != "" {
				m.write(t, layerDir+"/"+id+"/parent", "sha256:"+parent)
			}
		}
		parent = id
	}
	m.write(t, contentDir+"/"+img.ID.Hex(), string(img.Config))
	names := strings.TrimSuffix(m.read(t, repositories), "}}")
	m.write(t, repositories, fmt.Sprintf("%s,%q:{%q:%q}}}", names, name, name+":1", img.ID))
}

func TestWhatOthersPulledIsKept(t *testing.T) {
	need(t)
	m := newMachine(t)
	web, db := webAndDB(t)
	m.install(t, db)
	m.mustBoot(t)
	mine := image(t, "", nil, makeTar(t, file("a", "a")), makeTar(t, file("b", "b")))
	m.pull(t, mine, "zz")
	m.install(t, web)
	m.mustBoot(t)
	for i, id := range mine.chains() {
		if got := m.read(t, fmt.Sprintf("overlay2/%063d%d/diff/file", 7, i)); got != "pulled" || !m.has(layerDir+"/"+id+"/size") {
			t.Errorf("layer %s: %q", id, got)
		}
	}
	if !m.has(contentDir+"/"+mine.ID.Hex()) || !strings.Contains(m.read(t, repositories), fmt.Sprintf(`"zz":{"zz:1":%q}`, mine.ID)) {
		t.Errorf("the image or its name is gone: %s", m.read(t, repositories))
	}
	// The system gets the same image, and loses it: the layers are still theirs.
	mine.Names = []string{"docker.io/library/zz:1"}
	m.install(t, mine)
	m.mustBoot(t)
	m.write(t, repositories, strings.Replace(m.read(t, repositories), `"zz:1":`, `"zz:2":`, 1))
	m.install(t, web)
	m.mustBoot(t)
	if !m.has(contentDir+"/"+mine.ID.Hex()) || !m.has(layerDir+"/"+mine.chains()[1]+"/size") {
		t.Error("an image that the system had for a while is gone with the system's")
	}
}

func TestWhatLiesOnALayerThatIsGoneIsSetAside(t *testing.T) {
	need(t)
	m := newMachine(t)
	web, db := webAndDB(t)
	m.install(t, db)
	m.mustBoot(t)
	mine := image(t, "", nil, append(db.archives, makeTar(t, file("mine", "1")), makeTar(t, file("mine", "2")))...)
	m.pull(t, mine, "zz")
	m.write(t, "image/overlay2/layerdb/mounts/c0ffee/parent", "sha256:"+mine.chains()[1])
	m.write(t, "image/overlay2/layerdb/mounts/c0ffee/mount-id", "beef")
	before := m.listing(t)
	m.install(t, image(t, "docker.io/library/web:1", nil, web.archives[1]))
	said := m.mustBoot(t)
	for _, want := range []string{"image " + mine.ID.Hex() + ": set aside", "container c0ffee: its image is no longer there: what it wrote is in " + m.dataRoot() + "/overlay2/beef/diff"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in what it said:\n%s", want, said)
		}
	}
	for _, name := range []string{contentDir + "/" + mine.ID.Hex(), layerDir + "/" + mine.chains()[2], layerDir + "/" + mine.chains()[3]} {
		if m.has(name) || !m.has(name+".aside") {
			t.Errorf("%s is not set aside", name)
		}
	}
	m.install(t, db) // the version of before, again
	m.mustBoot(t)
	same(t, "with the layers back", m.listing(t), before)
}

func TestWhatWasSetAsideGoesWhenItWasPulledAgain(t *testing.T) {
	need(t)
	m := newMachine(t)
	web, db := webAndDB(t)
	m.install(t, db)
	m.mustBoot(t)
	mine := image(t, "", nil, append(db.archives, makeTar(t, file("mine", "1")))...)
	m.pull(t, mine, "zz")
	old := fmt.Sprintf("overlay2/%063d%d", 7, 2)
	m.install(t, web)
	m.mustBoot(t)
	rename(t, filepath.Join(m.dataRoot(), old), filepath.Join(m.dataRoot(), "overlay2/kept"))
	m.write(t, layerDir+"/"+mine.chains()[2]+".aside/cache-id", "kept")
	m.pull(t, mine, "zz")
	m.mustBoot(t)
	if m.has("overlay2/kept") || m.has(layerDir+"/"+mine.chains()[2]+".aside") || m.has(contentDir+"/"+mine.ID.Hex()+".aside") {
		t.Error("what was pulled again is there twice")
	}
	if !m.has(old+"/diff/file") || !m.has(layerDir+"/"+mine.chains()[2]) || !m.has(contentDir+"/"+mine.ID.Hex()) {
		t.Error("what was pulled again is gone")
	}
}

func TestABrokenListOfNamesIsMadeAnew(t *testing.T) {
	need(t)
	for _, broken := range []string{"", "{", `{"Repositories":{"web":{"web:1":"sha256:`, "\x00\x00"} {
		m := newMachine(t)
		web, _ := webAndDB(t)
		m.install(t, web)
		m.mustBoot(t)
		want := m.read(t, repositories)
		m.write(t, repositories, broken)
		m.mustBoot(t)
		if got := m.read(t, repositories); got != want {
			t.Errorf("%q became %s", broken, got)
		}
	}
}

// TestAPowerCutLeavesNothingHalf ends the program before each of the programs
// that it changes the disk with, at the first boot, at one after an update and
// at one after going back.
func TestAPowerCutLeavesNothingHalf(t *testing.T) {
	need(t)
	bin, count := t.TempDir(), filepath.Join(t.TempDir(), "count")
	for name, does := range map[string]string{"cp": "cp", "mv": "mv", "rm": "rm", "rmdir": "rmdir", "mkdir": "mkdir", "sync": "true"} {
		text := fmt.Sprintf("#!/bin/sh\nread -r n <%[1]s\n[ $n -gt 0 ] || { kill -9 $PPID; exit 1; }\necho $((n-1)) >%[1]s\nexec /usr/bin/%[2]s \"$@\"\n", count, does)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	web, db := webAndDB(t)
	mine := image(t, "", nil, append(db.archives, makeTar(t, file("mine", "1")))...)
	m := newMachine(t)
	versions := [][]made{{web, db}, {web}, {db, web}}
	for i, images := range versions {
		m.install(t, images...)
		rename(t, m.store(), m.store()+fmt.Sprint(i))
	}
	// boot boots with a cut before the nth change, and says whether it came so
	// far.
	boot := func(n int) bool {
		if err := os.WriteFile(count, []byte(fmt.Sprintln(n)), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := m.boot(t, bin+":"+os.Getenv("PATH"))
		return err != nil
	}
	var want []string
	step := 1
	if testing.Short() {
		step = 4
	}
	for cut, n := true, 0; cut && !t.Failed(); n += step {
		cut = false
		if err := os.RemoveAll(m.dataRoot()); err != nil {
			t.Fatal(err)
		}
		for i := range versions {
			version := m.store() + fmt.Sprint(i)
			rename(t, version, m.store())
			cut = boot(n) || cut
			m.mustBoot(t)
			if i == 0 {
				m.pull(t, mine, "zz")
			}
			got := m.listing(t)
			if len(want) <= i {
				want = append(want, got)
			}
			same(t, fmt.Sprintf("version %d, cut before change %d", i, n), got, want[i])
			rename(t, m.store(), version)
		}
	}
	same(t, "going back", want[2], want[0])
	whole := newMachine(t)
	whole.install(t, web, db)
	whole.mustBoot(t)
	whole.pull(t, mine, "zz")
	same(t, "cut and finished", want[0], strings.ReplaceAll(whole.listing(t), whole.dir, m.dir))
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
