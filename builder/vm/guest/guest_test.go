package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The script says what the system's programs say, in the form that is promised.
func TestScript(t *testing.T) {
	dir := t.TempDir()
	port := filepath.Join(dir, "port")
	programs := map[string]string{
		"bin/systemctl": `case "$1" in
is-system-running) echo degraded; exit 1;;
--failed) echo "a.service loaded failed failed A thing"; echo "b.mount loaded failed failed B";;
poweroff) touch "` + dir + `/poweroff";;
esac`,
		"bin/journalctl":      `for a; do case "$a" in --unit=*) echo "[1.0] log of ${a#--unit=}";; esac; done`,
		"bin/findmnt":         `echo "/dev/mapper/root squashfs ro,relatime"`,
		"bin/veritysetup":     `printf '/dev/mapper/root is active.\n  status:      verified\n'`,
		"bin/systemd-analyze": `printf 'Startup finished in 1s\nmulti-user.target reached'`,
		"report.d/10-first":   `echo own=1`,
		"report.d/20-second":  `exit 4`,
		"port":                ``,
	}
	for name, text := range programs {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(port, 0); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(
		"PATH=/usr/sbin:", "PATH="+dir+"/bin:/usr/sbin:",
		"/dev/virtio-ports/applbuild.report", port,
		Directory, dir+"/report.d",
	).Replace(script)
	if out, err := exec.Command("sh", "-eu", "-c", text).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(port)
	if err != nil {
		t.Fatal(err)
	}
	want := `state=degraded
failed=a.service
failed=b.mount
failed-log=[1.0] log of a.service
failed-log=[1.0] log of b.mount
root=/dev/mapper/root squashfs ro,relatime
verity=/dev/mapper/root is active.
verity=  status:      verified
time=Startup finished in 1s
time=multi-user.target reached
own=1
program-failed=20-second 4
done
`
	if string(got) != want {
		t.Errorf("report:\n%s\nwant:\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "poweroff")); err != nil {
		t.Error("the system was not powered off")
	}
}

func TestFiles(t *testing.T) {
	for _, f := range Files() {
		if f.Text == "" || !filepath.IsAbs(f.Path) || f.Mode&^0o755 != 0 {
			t.Errorf("%s: mode %o, %d bytes", f.Path, f.Mode, len(f.Text))
		}
	}
}
