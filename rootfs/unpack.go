package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/resolve"
)

type unpackArgs struct {
	Debs    []Deb
	Arch    string
	Aliased []string
	Locales []string
	Clock   time.Time
}

// unpackAnswer is one line of what the function says while it runs: how far
// it is, or its result.
type unpackAnswer struct {
	Done, Total int64
	Result      *unpackResult
}

type unpackResult struct {
	Devices []deb.Device
	System  []string     // the packages of the base system, as dpkg names them
	Script  *ScriptError // what a preinst script did wrong
	Network netUse
}

// unpacking is the state of unpackInside. The tree is seen twice: as / with
// proc, dev and run mounted over it, for scripts, and bare, for packages' files.
type unpacking struct {
	args     unpackArgs
	unpacker *deb.Unpacker
	packages []*unpackPackage
	answers  *json.Encoder
	done     int64
	total    int64
}

type unpackPackage struct {
	deb     Deb
	file    *deb.File
	control *deb.Control
	system  bool // part of the base system
	held    bool // its preinst runs before it is unpacked
}

func unpackInside(ctx context.Context, raw []byte, files []*os.File) error {
	u := &unpacking{answers: json.NewEncoder(files[0])}
	if err := json.Unmarshal(raw, &u.args); err != nil {
		return err
	}
	if err := u.open(); err != nil {
		return err
	}
	database, err := deb.OpenDatabase(insideTree, u.args.Arch, u.args.Clock)
	if err != nil {
		return err
	}
	defer database.Close()
	u.unpacker = &deb.Unpacker{
		Root: insideTree, Database: database, MergedUsr: u.args.Aliased,
		Progress: func(_ string, size int64) {
			u.done += size
			u.answers.Encode(unpackAnswer{Done: u.done, Total: u.total})
		},
	}
	defer u.unpacker.Close()
	err = u.run(ctx)
	var script *ScriptError
	if err != nil && !errors.As(err, &script) {
		return err
	}
	if script == nil {
		script = leftRunning(stragglers, nil)
	}
	if err := database.Save(); err != nil {
		return err
	}
	if err := u.extendedStates(); err != nil {
		return err
	}
	result := unpackResult{Devices: u.unpacker.Devices(), Script: script, Network: triedNetwork()}
	for _, p := range u.packages {
		if p.system {
			result.System = append(result.System, p.control.Qualified())
		}
	}
	if err := u.answers.Encode(unpackAnswer{Done: u.total, Total: u.total}); err != nil {
		return err
	}
	return u.answers.Encode(unpackAnswer{Result: &result})
}

// open reads all control archives and puts the packages in the order in which
// dpkg could install them.
func (u *unpacking) open() error {
	var paragraphs bytes.Buffer
	byName := map[string]*unpackPackage{}
	for _, d := range u.args.Debs {
		f, err := os.Open(filepath.Join(insidePackages, d.File))
		if err != nil {
			return fmt.Errorf("package %s: %w", d.Name, err)
		}
		p := &unpackPackage{deb: d}
		if p.file, err = deb.Open(f, d.Size); err != nil {
			return fmt.Errorf("package %s: %w", d.Name, err)
		}
		if p.control, err = p.file.Control(); err != nil {
			return fmt.Errorf("package %s: %w", d.Name, err)
		}
		u.total += d.Size
		byName[p.control.Name()+":"+p.control.Arch()] = p
		for _, field := range p.control.Paragraph {
			fmt.Fprintf(&paragraphs, "%s: %s\n", field.Name, bytes.ReplaceAll([]byte(field.Value), []byte("\n"), []byte("\n ")))
		}
		fmt.Fprintf(&paragraphs, "Filename: %s\nSize: %d\nSHA256: %064d\n\n", d.File, d.Size, 0)
	}
	packages, err := resolve.ReadPackages(&paragraphs, &resolve.Origin{})
	if err != nil {
		return fmt.Errorf("control files: %w", err)
	}
	system, err := baseSystem(packages)
	if err != nil {
		return err
	}
	for _, ordered := range resolve.Order(packages) {
		p := byName[ordered.Name+":"+ordered.Arch]
		_, preinst := p.control.Member("preinst")
		p.system = system[ordered.Name]
		p.held = preinst && !p.system
		u.packages = append(u.packages, p)
	}
	return nil
}

// baseSystem names the packages that scripts count on without saying so: the
// essential ones and all that these need.
func baseSystem(packages []*resolve.Package) (map[string]bool, error) {
	providers := map[string][]*resolve.Package{}
	var pending []*resolve.Package
	for _, p := range packages {
		provides, err := p.Provides.Parse()
		if err != nil {
			return nil, fmt.Errorf("package %s: Provides: %w", p.Name, err)
		}
		providers[p.Name] = append(providers[p.Name], p)
		for _, group := range provides {
			for _, virtual := range group {
				providers[virtual.Name] = append(providers[virtual.Name], p)
			}
		}
		if p.Essential {
			pending = append(pending, p)
		}
	}
	system := map[string]bool{}
	for len(pending) > 0 {
		p := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if system[p.Name] {
			continue
		}
		system[p.Name] = true
		for _, field := range []resolve.Relations{p.PreDepends, p.Depends} {
			groups, err := field.Parse()
			if err != nil {
				return nil, fmt.Errorf("package %s: dependencies: %w", p.Name, err)
			}
			for _, group := range groups {
				for _, alternative := range group {
					pending = append(pending, providers[alternative.Name]...)
				}
			}
		}
	}
	return system, nil
}

func (u *unpacking) run(ctx context.Context) error {
	var early []*deb.File
	for _, p := range u.packages {
		if !p.held {
			early = append(early, p.file)
		}
	}
	if err := u.unpacker.UnpackAll(ctx, early); err != nil {
		return err
	}
	if err := u.prepare(); err != nil {
		return err
	}
	for _, p := range u.packages {
		if err := u.preinst(ctx, p); err != nil {
			return err
		}
		if !p.held {
			continue
		}
		if err := u.unpacker.Unpack(ctx, p.file); err != nil {
			return err
		}
	}
	return nil
}

// prepare gives scripts the files that they need before the packages that
// make them are configured.
func (u *unpacking) prepare() error {
	for to, from := range map[string]string{
		"/etc/passwd": "/usr/share/base-passwd/passwd.master",
		"/etc/group":  "/usr/share/base-passwd/group.master",
	} {
		data, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) || exists(to) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
	}
	if len(u.args.Locales) == 0 {
		return nil
	}
	var lines bytes.Buffer
	for _, locale := range u.args.Locales {
		fmt.Fprintln(&lines, locale)
	}
	return os.WriteFile("/etc/locale.gen", lines.Bytes(), 0o644)
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// preinst runs the package's preinst script as dpkg does for a new package.
func (u *unpacking) preinst(ctx context.Context, p *unpackPackage) error {
	database := u.unpacker.Database
	argv, env, err := database.StagePreinst(p.control)
	if err != nil || argv == nil {
		return err
	}
	var output tail
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(scriptEnv(), env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return &ScriptError{Package: p.control.Name(), Script: "preinst", Reason: err.Error(), Output: output.bytes()}
	}
	return database.Unstage()
}

// extendedStates tells apt which packages came only as dependencies. Those of
// the base system count as asked for, as in every tree that was bootstrapped.
func (u *unpacking) extendedStates() error {
	var states bytes.Buffer
	for _, p := range u.packages {
		if p.deb.Auto && !p.system {
			arch := p.control.Arch()
			if arch == "all" {
				arch = u.args.Arch
			}
			fmt.Fprintf(&states, "Package: %s\nArchitecture: %s\nAuto-Installed: 1\n\n", p.control.Name(), arch)
		}
	}
	const dir = "/var/lib/apt"
	if states.Len() == 0 || !exists(dir) {
		return nil
	}
	return os.WriteFile(dir+"/extended_states", states.Bytes(), 0o644)
}
