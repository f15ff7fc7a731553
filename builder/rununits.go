package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/containers/units"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/accounts"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Where the recipe's own files for runtimes go.
const (
	quadletDir  = "usr/share/containers/systemd"
	composeFile = "usr/lib/applbuild/compose.yml"
)

// runFile is a quadlet or a compose file of the recipe, as it is.
type runFile struct {
	Path   string // on the machine, without a leading slash
	SHA256 string

	name string // of the recipe's file
	data []byte
}

// Bounds of the recipe's quadlets and compose file.
const (
	maxRunFile  = 1 << 20 // bytes
	maxRunFiles = 1000
)

// readRunFiles reads the recipe's quadlets and its compose file.
func readRunFiles(c *recipes.Containers) ([]runFile, error) {
	if c == nil {
		return nil, nil
	}
	var list []runFile
	read := func(source, target string) error {
		data, err := readSmall(source, maxRunFile)
		if err != nil {
			return err
		}
		if len(list) == maxRunFiles {
			return fmt.Errorf("%s: more than %d files", source, maxRunFiles)
		}
		sum := sha256.Sum256(data)
		list = append(list, runFile{Path: target, SHA256: hex.EncodeToString(sum[:]), name: source, data: data})
		return nil
	}
	for _, source := range c.QuadletFiles {
		info, err := os.Stat(source)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if err := read(source, path.Join(quadletDir, filepath.Base(source))); err != nil {
				return nil, err
			}
			continue
		}
		err = filepath.WalkDir(source, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			below, err := filepath.Rel(source, name)
			if err != nil {
				return err
			}
			return read(name, path.Join(quadletDir, filepath.ToSlash(below)))
		})
		if err != nil {
			return nil, err
		}
	}
	if c.ComposeFile != "" {
		if err := read(c.ComposeFile, composeFile); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// checkRunFiles refuses quadlets and compose files that could not run from what is
// on the disk.
func checkRunFiles(r *recipes.Recipe) error {
	files, err := readRunFiles(r.Containers)
	if err != nil {
		return r.Problem("containers", err.Error(), "", err)
	}
	for _, f := range files {
		given := units.Given{Name: f.name, Data: f.data, Never: r.Containers.Pull == recipes.PullNever, Image: func(text string) error {
			ref, err := recipes.ParseReference(text)
			if err != nil || r.Containers.Pull != recipes.PullNever {
				return err
			}
			if r.Containers.Image(ref) == nil {
				return fmt.Errorf("image %s is not on the disk, and nothing is fetched at run time", ref)
			}
			return nil
		}}
		check := units.CheckQuadlet
		if f.Path == composeFile {
			check = units.CheckCompose
		}
		if err := check(given); err != nil {
			return err
		}
	}
	return nil
}

// runtimePackages are those that the containers' runtime needs.
func runtimePackages(r *recipes.Recipe) []string {
	c := r.Containers
	if c == nil {
		return nil
	}
	list, err := units.Packages(units.Wanted{
		Runtime: c.Runtime, Distribution: r.Distribution, Release: r.Release, Compose: c.Compose != "",
		Rootless: len(rootlessUsers(c)) > 0,
	})
	if err != nil {
		return nil // preflight says why
	}
	return slices.DeleteFunc(list, func(name string) bool {
		return slices.ContainsFunc(r.Packages, func(asked string) bool {
			plain, _, _ := strings.Cut(asked, "=")
			plain, _, _ = strings.Cut(plain, "/")
			return plain == name || strings.TrimSuffix(plain, "-") == name
		})
	})
}

// layUnits puts into the tree what starts the containers.
func (img *build) layUnits(t *tree.Tree, needs []string) error {
	for _, f := range img.runFiles {
		if err := t.WriteFile(f.Path, f.data, 0o644, 0, 0); err != nil {
			return err
		}
	}
	m, err := img.machine(t)
	if err != nil {
		return err
	}
	m.Needs = needs
	files, err := units.Make(m)
	if err != nil {
		return img.recipe.Problem("containers.run", err.Error(), "", err)
	}
	for _, f := range files {
		if f.Link != "" {
			err = t.Symlink(f.Link, f.Path)
		} else {
			err = t.WriteFile(f.Path, f.Data, 0o644, 0, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// machine is what the recipe's containers are to the package units.
func (img *build) machine(t *tree.Tree) (units.Machine, error) {
	c := img.recipe.Containers
	m := units.Machine{Runtime: c.Runtime, Namespace: c.Namespace, Pull: c.Pull, Version: upstreamVersion(img.lock, "podman")}
	if c.ComposeFile != "" {
		m.Compose, m.Plugin = "/"+composeFile, units.ComposeIsPlugin(img.recipe.Distribution, img.recipe.Release)
	}
	if len(c.QuadletFiles) > 0 && !units.HasQuadlets(m.Version) {
		return m, img.recipe.Problem("containers.quadlets", "podman "+m.Version+" reads no quadlets", "write the containers under run, or use a later release", nil)
	}
	for i := range c.Run {
		run := &c.Run[i]
		made := units.Container{
			Name: run.Name, Image: c.Image(run.Image).Reference().String(), Entrypoint: run.Entrypoint, Command: run.Command,
			Environment: run.Environment, EnvironmentFile: run.EnvironmentFile, Secrets: run.Secrets, After: run.After,
			Restart: run.Restart, ReadOnly: run.ReadOnly, User: run.User, Network: run.Network,
			Memory: int64(run.Memory), CPUs: run.CPUs, Labels: run.Labels,
		}
		for _, p := range run.Ports {
			made.Ports = append(made.Ports, p.String())
		}
		for _, v := range run.Volumes {
			made.Volumes = append(made.Volumes, units.Volume{Source: v.Source, Path: v.Path, Options: v.Options, Create: img.makesFolder(t, v.Source)})
		}
		if h := run.Health; h != nil {
			made.Health = &units.Health{
				Command: h.Command, Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
				StartPeriod: time.Duration(h.StartPeriod), Retries: h.Retries,
			}
		}
		if run.Rootless != "" {
			uid, _, err := accounts.Resolve(accountTree{editTree{t}}, run.Rootless, "")
			if err != nil {
				return m, img.recipe.Problem(fmt.Sprintf("containers.run[%d].rootless", i), err.Error(), "add the user to users", err)
			}
			made.Rootless = &units.User{Name: run.Rootless, UID: uid}
		}
		m.Containers = append(m.Containers, made)
	}
	return m, nil
}

// makesFolder says that a volume's folder is made at boot where it is missing:
// below a partition, or in /var. Elsewhere it may be a file that somebody else
// makes.
func (img *build) makesFolder(t *tree.Tree, source string) bool {
	if !strings.HasPrefix(source, "/") {
		return false
	}
	if _, err := t.Resolve(source); err == nil {
		return false
	}
	places := []string{"/var"}
	for _, p := range img.recipe.Partitions {
		if p.Mounted() {
			places = append(places, p.Mount)
		}
	}
	return slices.ContainsFunc(places, func(place string) bool { return strings.HasPrefix(source, place+"/") })
}

// upstreamVersion is the version of a package of the lock without epoch and
// revision; empty where it has none.
func upstreamVersion(l *lock.Lock, name string) string {
	for _, p := range l.Packages {
		if p.Name != name {
			continue
		}
		version := p.Version
		if _, after, found := strings.Cut(version, ":"); found {
			version = after
		}
		version, _, _ = strings.Cut(version, "+")
		version, _, _ = strings.Cut(version, "-")
		return version
	}
	return ""
}
