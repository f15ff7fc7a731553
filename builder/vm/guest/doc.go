// Package guest is what an image under test carries to report to the machine
// that booted it (package vm): a unit and a shell script.
//
// The unit starts with multi-user.target. The script waits for the end of the
// boot, writes to the virtio-serial port applbuild.report and powers off. In a
// machine without that port it does nothing, after ten seconds of looking for it.
//
// The report is lines of UTF-8. One is key=value, where the key has no blanks
// and the value goes to the end of the line; a key may come several times, with
// one line of an output each. Lines without a key are noise. The last line is
// the word done: a report without it is cut short. Keys, in order:
//
//	state        systemctl is-system-running --wait: running, degraded, …
//	failed       systemctl --failed: one for each unit
//	failed-log   the journal's last lines of the units that failed
//	root         findmnt of /: source, type and options with blanks between
//	verity       veritysetup status root: one for each line; left out without veritysetup
//	time         systemd-analyze time: one for each line
//
// Then come the lines of each executable file in /usr/lib/applbuild-report.d,
// in the order of their names, so that a test can ask further things. A
// program's failure is the line program-failed=NAME STATUS.
package guest

import _ "embed"

// A File is a file that a test image gets.
type File struct {
	Path string // absolute, in the image
	Mode uint32 // permission bits
	Text string
}

const (
	// Unit is the name of the unit; it must be enabled.
	Unit = "applbuild-report.service"
	// Directory is where further programs are looked for.
	Directory = "/usr/lib/applbuild-report.d"
)

//go:embed applbuild-report.service
var service string

//go:embed applbuild-report
var script string

// Files returns the files of the report, owned by root. Enabling [Unit] is left
// to whoever puts them into an image.
func Files() []File {
	return []File{
		{"/usr/lib/systemd/system/" + Unit, 0o644, service},
		{"/usr/lib/applbuild-report", 0o755, script},
	}
}
