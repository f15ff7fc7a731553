package boottest

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestTheAgentGetsInByWhatSystemdTakes(t *testing.T) {
	for osRelease, want := range map[string]string{
		"ID=debian\nVERSION_ID=\"13\"\n":      "systemd.unit-dropin.sysinit.target",
		"ID=debian\nVERSION_CODENAME=forky\n": "systemd.unit-dropin.sysinit.target",
		"ID=debian\nVERSION_ID=\"12\"\n":      "tmpfiles.extra",
		"ID=ubuntu\nVERSION_ID=\"24.04\"\n":   "tmpfiles.extra",
		"VERSION_ID='26.04'\nID='ubuntu'\n":   "systemd.unit-dropin.sysinit.target",
		"ID=ubuntu\nVERSION_ID=\"22.04\"\n":   "",
		"ID=debian\nVERSION_ID=\"11\"\n":      "",
		"ID=kiosk\nVERSION_ID=1\n":            "systemd.unit-dropin.sysinit.target",
		"":                                    "systemd.unit-dropin.sysinit.target",
	} {
		credentials, err := Credentials(osRelease)
		if (err != nil) != (want == "") || err != nil && !errors.Is(err, ErrNoWay) {
			t.Errorf("%q: %v", osRelease, err)
		}
		if err == nil && (credentials[0].Name != "applbuild.agent" || credentials[len(credentials)-1].Name != want) {
			t.Errorf("%q: %s, want %s", osRelease, credentials[len(credentials)-1].Name, want)
		}
		// What systemd 255 reads of them is a page, with what the maker of the
		// machine adds: a key, a console.
		size := 512
		for _, c := range credentials {
			size += len("io.systemd.credential.binary:=") + len(c.Name) + base64.StdEncoding.EncodedLen(len(c.Value)) + 1
		}
		if want == "tmpfiles.extra" && size > 4096 {
			t.Errorf("%q: the credentials need %d bytes", osRelease, size)
		}
	}
}

func TestLinesOfTmpfiles(t *testing.T) {
	for line := range strings.Lines(string(tmpfiles())) {
		if f := strings.Fields(line); len(f) != 7 {
			t.Errorf("%q has %d fields", line, len(f))
		}
	}
}
