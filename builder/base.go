package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/rootfs"
	"github.com/applbuild/applbuild/rootfs/distro"
)

// What the result of the stage base holds.
const (
	fileBase     = "tree.tar"
	valueDevices = "devices" // JSON: nodes that packages ship
)

// base makes the configured tree of the image's packages.
func (img *build) base(ctx context.Context) (*store.Result, error) {
	return img.do(ctx, stageBase, img.keys.base, func(ctx context.Context, d *store.Draft) error {
		scratch, err := img.store.Scratch("base")
		if err != nil {
			return err
		}
		defer scratch.Remove(context.WithoutCancel(ctx))
		b := rootfs.Base{
			Packages: filepath.Join(img.store.Path(archiveDir), "packages"),
			Arch:     img.arch.Name,
			Aliases:  img.aliases(),
			Locales:  img.locales(),
			Clock:    img.clock,
			Scratch:  scratch.Dir,
			Progress: func(done, total int64) { img.settings.Observer.StageProgress("unpack", done, total) },
			Step: func(name string) func(error) {
				img.settings.Observer.StageStarted(name)
				return func(err error) { img.settings.Observer.StageDone(name, false, err) }
			},
			Notice: img.settings.Observer.Notice,
		}
		auto := img.automatic()
		for _, p := range img.lock.Packages {
			file, err := filepath.Rel(b.Packages, img.client.Path(p.SHA256))
			if err != nil {
				return err
			}
			_, isAuto := slices.BinarySearch(auto, p.Name)
			b.Debs = append(b.Debs, rootfs.Deb{Name: p.Name, File: file, Size: p.Size, Auto: isAuto})
		}
		out, err := d.Create(fileBase)
		if err != nil {
			return err
		}
		defer out.Close()
		devices, err := b.Build(ctx, out)
		if err != nil {
			return err
		}
		text, err := json.Marshal(devices)
		if err != nil {
			return err
		}
		d.Set(valueDevices, string(text))
		return out.Close()
	})
}

const stageBase = "base"

// aliases says that /bin and so on must be links before the first package.
func (img *build) aliases() bool { return img.release.MergedUsr == distro.UsrAliases }

// automatic are the packages that came only as dependencies, sorted.
func (img *build) automatic() []string {
	asked := map[string]bool{}
	for _, name := range wanted(img.recipe, img.release) {
		name, _, _ = strings.Cut(name, "=")
		name, _, _ = strings.Cut(name, "/")
		name, _, _ = strings.Cut(name, ":")
		asked[name] = true
	}
	var names []string
	for _, p := range img.lock.Packages {
		if !asked[p.Name] {
			names = append(names, p.Name)
		}
	}
	sort.Strings(names)
	return names
}

// locales are the lines of /etc/locale.gen for a locale that libc does not
// have built in.
func (img *build) locales() []string {
	locale := img.recipe.Locale
	name, charset, ok := strings.Cut(locale, ".")
	if name == "C" || name == "POSIX" || locale == "" {
		return nil
	}
	if !img.locked("locales") {
		return nil
	}
	if !ok {
		charset = "ISO-8859-1"
	}
	if strings.EqualFold(charset, "utf8") {
		charset = "UTF-8"
	}
	return []string{locale + " " + charset}
}

// locked says whether the lock has a package of the image.
func (img *build) locked(name string) bool {
	return slices.ContainsFunc(img.lock.Packages, func(p lock.Package) bool { return p.Name == name })
}

// checkSettings refuses what no package of the image can provide, before any
// of them is fetched.
func (img *build) checkSettings() error {
	locale := img.recipe.Locale
	name, _, _ := strings.Cut(locale, ".")
	builtIn := locale == "" || name == "C" || name == "POSIX"
	if !builtIn && len(img.locales()) == 0 && !img.locked("locales-all") {
		return img.recipe.Problem("locale", fmt.Sprintf("locale %s is compiled by the package locales, which is not installed", locale), "add locales to packages, or use C.UTF-8", nil)
	}
	zone := img.recipe.Timezone
	if zone != "" && zone != utc && !img.locked("tzdata") {
		return img.recipe.Problem("timezone", fmt.Sprintf("time zone %s is in the package tzdata, which is not installed", zone), "add tzdata to packages, or use "+utc, nil)
	}
	return nil
}
