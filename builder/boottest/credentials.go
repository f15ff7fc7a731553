package boottest

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PortName is the name of the virtio-serial port between agent and host.
const PortName = "applbuild.test"

// A Credential is a system credential that a machine is started with.
type Credential struct {
	Name  string
	Value []byte
}

//go:embed agent
var agentScript []byte

// It runs from as early as can be, also where the machine does not get further than
// to an emergency shell.
//
//go:embed applbuild-test.service
var agentService []byte

// It is run by the kernel for want of a module, once: then the agent is started,
// whose unit was written after systemd had read all units.
//
//go:embed start
var startScript []byte

// unitName is the name of the agent's service.
const unitName = "applbuild-test.service"

// ErrNoWay says that no check gets into a system.
var ErrNoWay = errors.New("its systemd is older than 252 and takes no credentials, so that nothing can be asked of it: look at it with applbuild boot")

// Releases by their systemd: the first whose systemd is 256 or later, and so makes
// units of credentials, and the first with 252 or later, which takes credentials
// at all. A release without a number is yet to come.
var systemdSince = map[string]struct{ units, credentials float64 }{
	"debian": {13, 12},
	"ubuntu": {25.04, 23.04},
}

// Credentials returns what brings the agent into a machine. osRelease is its
// os-release(5), of which distribution and version count; of one that is not known
// the best is hoped for. The error matches ErrNoWay.
func Credentials(osRelease string) ([]Credential, error) {
	values := properties(osRelease)
	name := strings.Trim(values["ID"], `"'`)
	since, known := systemdSince[name]
	version, errVersion := strconv.ParseFloat(strings.Trim(values["VERSION_ID"], `"'`), 64)
	agent, err := packed(agentScript)
	if err != nil {
		return nil, err
	}
	credentials := []Credential{{"applbuild.agent", agent}}
	switch {
	case !known || errVersion != nil || version >= since.units:
		return append(credentials,
			Credential{"systemd.extra-unit." + unitName, agentService},
			// Every boot comes by this target.
			Credential{"systemd.unit-dropin.sysinit.target", []byte("[Unit]\nWants=" + unitName + "\n")},
		), nil
	case version >= since.credentials:
		return append(credentials, Credential{"tmpfiles.extra", tmpfiles()}), nil
	}
	return nil, fmt.Errorf("%s %s: %w", name, strings.Trim(values["VERSION_ID"], `"'`), ErrNoWay)
}

// packed is a text as gzip packs it: systemd 255 reads 4 KiB of all credentials.
func packed(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// tmpfiles are lines of tmpfiles.d(5). They write the unit where systemd finds it
// when it is asked to start it, which the kernel does: it runs a program to load
// modules, and is asked for a way of congestion control that it has not. That it
// has none after that either is no failure.
func tmpfiles() []byte {
	const start = "/run/applbuild-test.start"
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "f~ /run/systemd/system/%s 0644 root root - %s\n"+
		"f~ %s 0700 root root - %s\n"+
		"w /proc/sys/kernel/modprobe - - - - %s\n"+
		"w- /proc/sys/net/ipv4/tcp_congestion_control - - - - applbuild\n",
		unitName, b64(agentService), start, b64(startScript), start)
}
