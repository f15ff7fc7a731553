package fs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
	"github.com/google/uuid"
)

var (
	clock    = fstest.Clock
	id       = fstest.ID
	hashSeed = uuid.MustParse("11111111-2222-4333-8444-555555555555")
)

// host runs the programs of a root directory: the machine's own, or those of
// another release.
type host struct {
	root  string // "" is the machine's
	extra []string
	umask int
}

func (h host) Run(ctx context.Context, cmd Command) error {
	dir, err := filepath.Rel("/"+h.root, cmd.Dir)
	if err != nil {
		return err
	}
	argv := []string{"sh", "-c", `umask "$1"; cd "$2" || exit 1; shift 2; exec "$@"`, "sh", fmt.Sprintf("%03o", h.umask), "/" + dir}
	if h.root != "" {
		argv = append([]string{"chroot", h.root}, argv...)
		if strings.HasPrefix(dir, "..") {
			argv[len(argv)-1] = "/"
		}
	}
	argv = append(argv, cmd.Argv...)
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = append(append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, cmd.Env...), h.extra...)
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	return c.Run()
}

// rooted is a host that can also extract trees, as root.
type rooted struct{ host }

func (h rooted) RunOnTree(ctx context.Context, tree Tree, cmd Command) error {
	dir, err := os.MkdirTemp("", "tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var b bytes.Buffer
	if err := tree.WriteTar(ctx, &b); err != nil {
		return err
	}
	untar := exec.CommandContext(ctx, "tar", "-C", dir, "--delay-directory-restore", "-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f", "-")
	untar.Stdin = &b
	if out, err := untar.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	cmd.Argv = slices.Clone(cmd.Argv)
	for i, a := range cmd.Argv {
		cmd.Argv[i] = strings.ReplaceAll(a, "{tree}", dir)
	}
	return h.Run(ctx, cmd)
}

// tools returns the machine's programs, and those of the release that
// APPLBUILD_TEST_TOOLS names a root directory of.
func tools(t *testing.T) map[string]host {
	t.Helper()
	all := map[string]host{"machine": {}}
	if root := os.Getenv("APPLBUILD_TEST_TOOLS"); root == "" {
		t.Log("APPLBUILD_TEST_TOOLS names no root directory of another release: only this machine's programs are tried")
	} else {
		all["other"] = host{root: root}
	}
	return all
}

// scratch is a folder that the programs of h see.
func scratch(t *testing.T, h host) string {
	t.Helper()
	if h.root == "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(filepath.Join(h.root, "tmp"), "fs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
