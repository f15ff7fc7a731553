package deb

import (
	"fmt"
	"strings"
)

// fallbackVersion is what scripts are told of dpkg where the tree has none.
const fallbackVersion = "1.22.0"

// StagePreinst makes the tree ready for a package's preinst script: the
// control members lie in var/lib/dpkg/tmp.ci, where dpkg has them at that
// time (debconf looks there for templates), and dpkg's own tools know the
// packages unpacked so far. It returns the command line, to be run in the
// tree, and the environment that dpkg adds to it; no command for a package
// without a preinst. Unstage has to follow, whatever the script did.
func (d *Database) StagePreinst(c *Control) (argv, env []string, err error) {
	script, ok := c.Member("preinst")
	if !ok {
		return nil, nil, nil
	}
	if err := d.Unstage(); err != nil {
		return nil, nil, err
	}
	if err := d.Save(); err != nil {
		return nil, nil, err
	}
	if err := d.root.Mkdir(ciDir, d.attr(0o755)); err != nil {
		return nil, nil, err
	}
	if err := d.write(ciDir+"/control", c.text, 0o644); err != nil {
		return nil, nil, err
	}
	for _, m := range c.Members {
		mode := memberMode(m)
		if m.Name == script.Name {
			mode = 0o755
		}
		if err := d.write(ciDir+"/"+m.Name, m.Data, mode); err != nil {
			return nil, nil, err
		}
	}
	return []string{"/" + ciDir + "/preinst", "install"}, d.ScriptEnv(c, "preinst"), nil
}

// Unstage removes what StagePreinst made and reads again what the script may
// have changed: diversions and overrides.
func (d *Database) Unstage() error {
	if err := d.root.RemoveAll(ciDir); err != nil {
		return fmt.Errorf("dpkg database: %w", err)
	}
	return d.Reload()
}

// ScriptEnv is what dpkg adds to the environment of a maintainer script.
func (d *Database) ScriptEnv(c *Control, script string) []string {
	instances := 0
	for _, p := range d.packages {
		if p.Control.Name() == c.Name() {
			instances++
		}
	}
	return []string{
		"DPKG_ADMINDIR=/" + adminDir,
		"DPKG_MAINTSCRIPT_ARCH=" + c.Arch(),
		"DPKG_MAINTSCRIPT_DEBUG=0",
		"DPKG_MAINTSCRIPT_NAME=" + script,
		"DPKG_MAINTSCRIPT_PACKAGE=" + c.Name(),
		fmt.Sprintf("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=%d", max(instances, 1)),
		"DPKG_ROOT=",
		"DPKG_RUNNING_VERSION=" + d.dpkgVersion(),
	}
}

// dpkgVersion is the upstream version of the tree's dpkg.
func (d *Database) dpkgVersion() string {
	for _, p := range d.packages {
		if p.Control.Name() != "dpkg" {
			continue
		}
		version := p.Control.Version()
		if end := strings.IndexFunc(version, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); end > 0 {
			return version[:end]
		}
		return version
	}
	return fallbackVersion
}
