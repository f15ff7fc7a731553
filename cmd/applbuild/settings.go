package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/distro"
)

// settings are the flags that several verbs share.
type settings struct {
	stdout, stderr *os.File

	store     string
	quiet     bool
	logFormat string

	mirrors []string
	tokens  string        // file with credentials of registries
	stall   time.Duration // that a registry may be silent for
	offline bool
	locked  bool
	set     []string
	arch    string
}

func (s *settings) globalFlags(f *pflag.FlagSet) {
	f.StringVar(&s.store, "store", "", "folder for packages and stage results (default APPLBUILD_STORE, else applbuild in the user's cache folder)")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "show errors and results only")
	f.StringVar(&s.logFormat, "log-format", "text", "how progress is written: text or json")
}

// archiveFlags are those of verbs that fetch packages.
func (s *settings) archiveFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&s.mirrors, "mirror", nil, "base URI to fetch packages from, where the recipe names none (default APPLBUILD_MIRROR, else the host's apt sources, else the public archive)")
	f.StringVar(&s.tokens, "registry-token-file", "", "file with credentials of registries, a line `HOST bearer TOKEN` or `HOST basic USER:PASSWORD` each (default those of podman and docker)")
	f.DurationVar(&s.stall, "registry-timeout", 30*time.Second, "how long a registry may be silent before it is given up, such as 90s")
	f.BoolVar(&s.offline, "offline", false, "use no network: everything must be in the store")
}

// recipeFlags are those of verbs that read a recipe.
func (s *settings) recipeFlags(f *pflag.FlagSet) {
	s.archiveFlags(f)
	f.StringArrayVar(&s.set, "set", nil, "change the recipe: PATH=VALUE, or PATH+=VALUE for lists (root.filesystem=erofs)")
	f.StringVar(&s.arch, "architecture", "", "build for this architecture where the recipe names none (default this machine's)")
}

func (s *settings) recipe(name string) (*recipes.Recipe, error) {
	return recipes.Load(name, recipes.Options{Set: s.set, Architecture: s.arch})
}

// builder makes a builder that shows its progress on p.
func (s *settings) builder(ctx context.Context, p *progress) (*builder.Builder, error) {
	store, err := s.storeDir()
	if err != nil {
		return nil, err
	}
	epoch, err := sourceDateEpoch()
	if err != nil {
		return nil, err
	}
	mirrors := s.mirrors
	if env := os.Getenv("APPLBUILD_MIRROR"); len(mirrors) == 0 && env != "" {
		mirrors = strings.Fields(env)
	}
	program, err := ownDigest()
	if err != nil {
		return nil, err
	}
	if s.stall < 0 {
		return nil, usageError{fmt.Errorf("--registry-timeout %v: it must not be negative", s.stall)}
	}
	registries, err := registrySettings(s.tokens)
	if err != nil {
		return nil, err
	}
	registries.Stall = s.stall
	apt := hostFolder("/etc/apt")
	return builder.New(ctx, builder.Settings{
		Store: store, Program: program, Now: time.Now(), Epoch: epoch, HostArch: runtime.GOARCH,
		Mirrors: mirrors, HostApt: apt, HostKeyrings: hostFolder("/usr/share/keyrings"),
		Proxy:      proxyFor(apt),
		Registries: registries,
		Offline:    s.offline, Locked: s.locked, Observer: p,
	})
}

// proxyFor chooses the environment's proxy, else the one that the host's apt
// goes through, but none to this machine itself.
func proxyFor(apt fs.FS) func(*http.Request) (*url.URL, error) {
	plain, secure := distro.Proxies(apt)
	return func(r *http.Request) (*url.URL, error) {
		proxy, err := http.ProxyFromEnvironment(r)
		if proxy != nil || err != nil {
			return proxy, err
		}
		through := plain
		if r.URL.Scheme == "https" {
			through = secure
		}
		host := r.URL.Hostname()
		if ip := net.ParseIP(host); through == "" || host == "localhost" || ip != nil && ip.IsLoopback() {
			return nil, nil
		}
		return url.Parse(through)
	}
}

// ownDigest is the SHA-256 of this program's file.
func ownDigest() (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func hostFolder(name string) fs.FS {
	if info, err := os.Stat(name); err != nil || !info.IsDir() {
		return nil
	}
	return os.DirFS(name)
}

// storeDir is --store, else APPLBUILD_STORE, else in the user's cache folder.
func (s *settings) storeDir() (string, error) {
	if s.store != "" {
		return s.store, nil
	}
	if env := os.Getenv("APPLBUILD_STORE"); env != "" {
		return env, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w: name a store with --store or APPLBUILD_STORE", err)
	}
	return filepath.Join(cache, "applbuild"), nil
}

// sourceDateEpoch is the time the environment asks for, zero where it doesn't
// (reproducible-builds.org, SOURCE_DATE_EPOCH specification).
func sourceDateEpoch() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q, not a number of seconds: unset it or write digits", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// outputDir is --output, else the recipe's, else ./out.
func outputDir(flag string, r *recipes.Recipe) string {
	switch {
	case flag != "":
		return flag
	case r.Output.Path != "":
		return r.Output.Path
	}
	return "out"
}

// withBuilder runs work with a builder and its progress.
func (s *settings) withBuilder(ctx context.Context, work func(*builder.Builder, *progress) error) (err error) {
	p, err := newProgress(s.stderr, s.quiet, s.logFormat)
	if err != nil {
		return usageError{err}
	}
	defer p.Close()
	b, err := s.builder(ctx, p)
	if err != nil {
		return err
	}
	err = work(b, p)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
