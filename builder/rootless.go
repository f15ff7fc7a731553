package builder

import (
	"bufio"
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/podman"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/accounts"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Where ordinary users have their images, and what podman writes for them: in the
// home folders, which are overlays, it cannot.
const (
	userStores = "usr/lib/containers/users"
	userRoots  = "/var/lib/containers/users"
)

// subordinateIDs is how many ids a container of an ordinary user needs at least:
// those of a Debian system, nobody's included.
const subordinateIDs = 65535

// rootlessUsers are the users who run containers or may, sorted.
func rootlessUsers(c *recipes.Containers) []string {
	names := slices.Clone(c.Rootless)
	for _, run := range c.Run {
		if run.Rootless != "" {
			names = append(names, run.Rootless)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// layRootless gives each user who runs containers the images with owners that
// are his in his containers: podman runs none from a store whose files are
// root's. The contents are root's once more, which squashfs and the like keep
// once.
func (img *build) layRootless(t *tree.Tree, list []podman.Image, layers map[containers.Digest]podman.Layer) error {
	users := rootlessUsers(img.recipe.Containers)
	if len(users) == 0 {
		return nil
	}
	folders := fmt.Sprintf("d %s 0755 root root\nd %s 0711 root root\n", path.Dir(userRoots), userRoots)
	for _, name := range users {
		owner, home, err := subordinate(t, name)
		if err != nil {
			return img.recipe.Problem("containers", fmt.Sprintf("user %s: %v", name, err), "", err)
		}
		prefix := path.Join(userStores, name)
		store := podman.Store{Prefix: prefix, Clock: img.clock, Owner: owner, Private: true}
		if err := store.Write(t, list, layers); err != nil {
			return err
		}
		id := owner(0)
		folders += fmt.Sprintf("d %s 0700 %d %d\n", path.Join(userRoots, name), id, id)
		conf := path.Join(home, podman.UserConfig)
		if _, there := t.Lookup(conf); there {
			continue // the recipe's own counts
		}
		for dir := range ancestors(conf, home) {
			if _, there := t.Lookup(dir); there {
				continue
			}
			if err := t.Mkdir(dir, 0o700, id, id); err != nil {
				return err
			}
		}
		if err := t.WriteFile(conf, podman.StorageConf("", path.Join(userRoots, name), "/"+prefix), 0o600, id, id); err != nil {
			return err
		}
	}
	return t.WriteFile("usr/lib/tmpfiles.d/applbuild-rootless.conf", []byte(folders), 0o644, 0, 0)
}

// ancestors yields the folders between above and a file below it, the highest
// first.
func ancestors(file, above string) func(func(string) bool) {
	return func(yield func(string) bool) {
		below := strings.TrimPrefix(path.Dir(file), above+"/")
		dir := above
		for part := range strings.SplitSeq(below, "/") {
			if dir = path.Join(dir, part); !yield(dir) {
				return
			}
		}
	}
}

// subordinate says whose a container's files are when a user runs it (subuid(5)),
// and where his home is, without a leading slash.
func subordinate(t *tree.Tree, name string) (owner func(int) int, home string, err error) {
	uid, _, err := accounts.Resolve(accountTree{editTree{t}}, name, "")
	if err != nil {
		return nil, "", err
	}
	home, gid, err := homeOf(t, name)
	if err != nil {
		return nil, "", err
	}
	first, err := firstSubordinate(t, "etc/subuid", name)
	if err != nil {
		return nil, "", err
	}
	firstGroup, err := firstSubordinate(t, "etc/subgid", name)
	if err != nil {
		return nil, "", err
	}
	if uid != gid || first != firstGroup {
		return nil, "", fmt.Errorf("the numbers of his user and his group (%d, %d), or of the ranges in /etc/subuid and /etc/subgid (from %d, from %d) differ, which a store for his containers does not allow", uid, gid, first, firstGroup)
	}
	return podman.Subordinate(uid, first), home, nil
}

// homeOf reads a user's home folder and primary group (passwd(5)).
func homeOf(t *tree.Tree, name string) (home string, gid int, err error) {
	fields, err := lineOf(t, "etc/passwd", name, 7)
	if err != nil {
		return "", 0, err
	}
	gid, err = strconv.Atoi(fields[3])
	home = strings.Trim(path.Clean(fields[5]), "/")
	if err != nil || home == "" {
		return "", 0, fmt.Errorf("he has no home folder: give him one")
	}
	return home, gid, nil
}

func firstSubordinate(t *tree.Tree, file, name string) (int, error) {
	fields, err := lineOf(t, file, name, 3)
	if err != nil {
		return 0, err
	}
	first, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0, fmt.Errorf("/%s: %q is no number", file, fields[1])
	}
	if count, err := strconv.Atoi(fields[2]); err != nil || count < subordinateIDs {
		return 0, fmt.Errorf("/%s: his range has less than %d ids", file, subordinateIDs)
	}
	return first, nil
}

// lineOf returns the fields of the first line of a file that a name begins.
func lineOf(t *tree.Tree, file, name string, fields int) ([]string, error) {
	data, err := t.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", file, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if parts := strings.Split(lines.Text(), ":"); parts[0] == name && len(parts) == fields {
			return parts, nil
		}
	}
	return nil, fmt.Errorf("/%s does not name him: he must be one of the recipe's users who is no system user", file)
}
