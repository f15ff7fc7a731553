package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/applbuild/applbuild/builder/boottest"
)

// writerPort is the port on which the writer says what it has synced.
const writerPort = "applbuild.soak"

// writer returns the credentials of a service that writes numbered files from as
// early as the root runs, and brings each to the disk before it says so.
func writer(boot int) []boottest.Credential {
	const unit = "applbuild-soak.service"
	return []boottest.Credential{
		{Name: "applbuild.soak", Value: []byte(strings.NewReplacer(
			"@PORT@", writerPort, "@BOOT@", strconv.Itoa(boot), "@LINES@", strconv.Itoa(writtenLines)).Replace(writerScript))},
		{Name: "systemd.extra-unit." + unit, Value: []byte(writerUnit)},
		{Name: "systemd.unit-dropin.local-fs.target", Value: []byte("[Unit]\nWants=" + unit + "\n")},
	}
}

const writerUnit = `[Unit]
Description=Write and Sync until the Power Is Cut
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
ExecStart=/bin/sh /run/credentials/@system/applbuild.soak
TimeoutStopSec=5
`

// writtenLines is how many lines a file has: some blocks of a file system.
const writtenLines = 600

const writerScript = `set -e
export PATH=/usr/sbin:/usr/bin LC_ALL=C
port=
until [ -n "$port" ] && [ -e "$port" ]; do
    for name in /sys/class/virtio-ports/*/name; do
        read -r text <"$name" || continue
        [ "$text" != @PORT@ ] || { port=${name%/name} port=/dev/${port##*/}; }
    done
    sleep 0.1
done
exec 3<>"$port"
echo "reached @BOOT@ userspace" >&3
for dir in /data /etc /var; do
    mkdir -p $dir/soak
    sync $dir $dir/soak
done
n=0 up='' settled=
while :; do
    n=$((n + 1))
    for dir in /data /etc /var; do
        file=$dir/soak/@BOOT@.$n
        seq -f "$file %g" @LINES@ >$file
        sync $file $dir/soak
        echo "synced $file" >&3
    done
    if [ -z "$up" ] && systemctl is-active --quiet multi-user.target; then
        up=1
        echo "reached @BOOT@ multi-user" >&3
    fi
    if [ -z "$settled" ] && [ -e /data/.system/settled ]; then
        settled=1
        echo "settled $(cat /etc/machine-id)" >&3
        echo "reached @BOOT@ settled" >&3
    fi
    sleep 0.2
done
`

// A journal is what a machine said that it has written, over all its boots.
type journal struct {
	mu      sync.Mutex
	files   []string
	places  map[int]string // how far each boot came
	settled string         // the machine's id at the end of the first boot
}

// read takes note of what the writer says until the guest's end.
func (j *journal) read(port io.Reader) {
	lines := bufio.NewReader(port)
	for {
		// A line that was cut was not said.
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		j.note(strings.TrimSpace(line))
	}
}

func (j *journal) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "synced":
		j.files = append(j.files, rest)
	case "settled":
		j.settled = rest
	case "reached":
		boot, place, _ := strings.Cut(rest, " ")
		if n, err := strconv.Atoi(boot); err == nil {
			if j.places == nil {
				j.places = map[int]string{}
			}
			j.places[n] = place
		}
	}
}

func (j *journal) list() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.files)
}

// reached says in words how far a boot came.
func (j *journal) reached(boot int) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if place := j.places[boot]; place != "" {
		return ", past " + place
	}
	return ", before userspace"
}

// command is one that fails where a file that was synced is gone or another.
func (j *journal) command() string {
	files := j.list()
	if len(files) == 0 {
		return "true"
	}
	var b strings.Builder
	b.WriteString("sha256sum --check --quiet <<'END'\n")
	for _, file := range files {
		sum := sha256.New()
		for i := range writtenLines {
			fmt.Fprintf(sum, "%s %d\n", file, i+1)
		}
		fmt.Fprintf(&b, "%x  %s\n", sum.Sum(nil), file)
	}
	return b.String() + "END\n"
}
