package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/vm/oracle"
)

func start(t *testing.T, m *Machine) *Guest {
	t.Helper()
	g, err := m.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// A guest ends the way it is made to end, and says so each time it is asked.
func TestGuestEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(g *Guest) error
		exit Reason
	}{
		{"power cut", func(g *Guest) error { g.PowerCut(); return nil }, PowerCut},
		{"power cut twice", func(g *Guest) error { g.PowerCut(); g.Close(); return nil }, PowerCut},
		{"power button", func(g *Guest) error { return g.PowerButton(context.Background()) }, PowerOff},
		{"reset", func(g *Guest) error { return g.Reset(context.Background()) }, Reset},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := fakeMachine(t, &fakeQEMU{major: 10})
			g := start(t, m)
			ctx, cancel := context.WithCancelCause(context.Background())
			reason := errors.New("tired of waiting")
			cancel(reason)
			if _, err := g.Wait(ctx); !errors.Is(err, reason) {
				t.Errorf("waiting without patience: %v", err)
			}
			if err := test.end(g); err != nil {
				t.Fatal(err)
			}
			<-g.Done()
			for range 2 {
				r, err := g.Wait(ctx)
				if err != nil || r.Exit != test.exit {
					t.Errorf("%+v, %v; want %s", r, err, test.exit)
				}
			}
			if err := g.Reset(context.Background()); !errors.Is(err, errGone) {
				t.Errorf("a reset of what has ended: %v", err)
			}
			left, _ := filepath.Glob(filepath.Join(m.Dir, "vm-*"))
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// The variables outlive the guest where the machine has a folder for its state,
// and are new where it has none.
func TestGuestState(t *testing.T) {
	m := fakeMachine(t, &fakeQEMU{major: 10})
	m.State = filepath.Join(t.TempDir(), "some", "state")
	vars := filepath.Join(m.State, "vars.fd")
	for _, want := range []string{"variables", "changed"} {
		start(t, m).PowerCut()
		if b, err := os.ReadFile(vars); err != nil || string(b) != want {
			t.Fatalf("variables %q, %v; want %q", b, err, want)
		}
		if err := os.WriteFile(vars, []byte("changed"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(m.State); err != nil || len(left) != 1 {
		t.Errorf("in the state's folder: %v, %v", left, err)
	}
}

// What the guest wrote to a port can be read after its end.
func TestGuestPorts(t *testing.T) {
	q := &fakeQEMU{major: 10, guest: func(q *fakeQEMU) {
		go func() {
			line := make([]byte, 6)
			io.ReadFull(q.ports[1], line)
			fmt.Fprintf(q.ports[1], "heard %s", line)
			fmt.Fprintf(q.ports[0], "first\n")
			q.shutdown("guest-shutdown")
		}()
	}}
	m := fakeMachine(t, q)
	m.Ports = []string{"a", "b.c"}
	g := start(t, m)
	if _, err := io.WriteString(g.Port("b.c"), "hello\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := g.Wait(t.Context()); err != nil || r.Exit != PowerOff {
		t.Errorf("%+v, %v", r, err)
	}
	for name, want := range map[string]string{"a": "first\n", "b.c": "heard hello\n"} {
		if b, err := io.ReadAll(g.Port(name)); err != nil || string(b) != want {
			t.Errorf("port %s: %q, %v; want %q", name, b, err, want)
		}
	}
	if g.Port(ReportPort) != nil {
		t.Error("the report's port can be had")
	}
}

// Free ports of the host are asked for.
func TestGuestForwards(t *testing.T) {
	m := fakeMachine(t, &fakeQEMU{major: 10, usernet: `Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  19       127.0.0.1  8080       10.0.2.15    80     0     0
  TCP[HOST_FORWARD]  18       127.0.0.1 43567       10.0.2.15    80     0     0
  TCP[HOST_FORWARD]  17       127.0.0.1  2222       10.0.2.15    22     0     0
  UDP[236 sec]       20       10.0.2.15    68        10.0.2.2    67     0     0
`})
	m.SSHPort, m.Forwards = 2222, []Forward{{Guest: 80}, {Host: 8080, Guest: 80}}
	got := start(t, m).Forwards()
	if want := []Forward{{2222, 22}, {43567, 80}, {8080, 80}}; !slices.Equal(got, want) {
		t.Errorf("forwards %v, want %v", got, want)
	}
	m.Runner = &fakeQEMU{major: 10, usernet: "slirp is tired"}
	if _, err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "guest's port 80") {
		t.Errorf("error %v", err)
	}
}

func FuzzForwards(f *testing.F) {
	f.Add("  TCP[HOST_FORWARD]  19  127.0.0.1  8080  10.0.2.15    80     0     0\n", 80)
	f.Fuzz(func(t *testing.T, said string, guest int) {
		wanted := []Forward{{0, guest}, {1, guest}, {0, guest}}
		if got, err := boundPorts(said, wanted); err == nil && len(got) != len(wanted) {
			t.Errorf("%d forwards", len(got))
		}
	})
}

// A plugged disk is handed over as an open file, and its slot is free again when
// the guest has let it go.
func TestGuestPlug(t *testing.T) {
	q := &fakeQEMU{major: 10}
	m := fakeMachine(t, q)
	m.Slots, m.Disks = 1, []Drive{{Path: "/boot.raw"}}
	g := start(t, m)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		drive Drive
		want  string
	}{
		{Drive{Path: disk, Write: true}, "an id is needed"},
		{Drive{ID: "a", Path: disk}, "either written or read-only"},
		{Drive{ID: "a", Path: "disk", ReadOnly: true}, "absolute path"},
		{Drive{ID: "a,b", Path: disk, ReadOnly: true}, "letters"},
		{Drive{ID: "a", Path: disk, ReadOnly: true, Bus: "scsi"}, "virtio or nvme"},
		{Drive{ID: "a", Path: disk + "-none", ReadOnly: true}, "no such file"},
		{Drive{ID: "disk0", Path: disk, ReadOnly: true}, "already"},
	} {
		if err := g.Plug(t.Context(), bad.drive); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("plugging %+v: %v, want %q", bad.drive, err, bad.want)
		}
	}
	for range 2 {
		if err := g.Plug(t.Context(), Drive{ID: "more", Path: disk, Write: true}); err != nil {
			t.Fatal(err)
		}
		if err := g.Plug(t.Context(), Drive{ID: "most", Path: disk, Write: true}); err == nil || !strings.Contains(err.Error(), "no free slot") {
			t.Errorf("a second disk in one slot: %v", err)
		}
		if err := g.Unplug(t.Context(), "more"); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Unplug(t.Context(), "more"); err == nil || !strings.Contains(err.Error(), "was not plugged") {
		t.Errorf("unplugging what is not there: %v", err)
	}
	g.PowerCut()
	said := strings.Join(q.requests, "\n")
	for _, want := range []string{
		`"add-fd","arguments":{"fdset-id":1}`, `"filename":"/dev/fdset/1"`, `"bus":"slot0","drive":"more"`,
		`"blockdev-del","arguments":{"node-name":"more"}`, `"remove-fd","arguments":{"fdset-id":1}`,
	} {
		if strings.Count(said, want) != 2 {
			t.Errorf("%s was not said twice in:\n%s", want, said)
		}
	}
}

// A guest that keeps its disk is waited for no longer than the caller wants.
func TestGuestKeepsDisk(t *testing.T) {
	m := fakeMachine(t, &fakeQEMU{major: 10, keeps: true})
	m.Slots = 1
	g := start(t, m)
	if err := g.Plug(t.Context(), Drive{ID: "more", Path: m.Firmware.Vars, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Unplug(ctx, "more"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// An overlay is what QEMU's own tools take for one.
func TestOverlay(t *testing.T) {
	tree := oracle.Find(t)
	host, inside := tree.TempDir(t)
	base := filepath.Join(host, "base")
	if err := os.WriteFile(base, slices.Repeat([]byte("base"), 256<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]string{
		0: "virtual size: 1 MiB (1048576 bytes)", 512 << 20: "virtual size: 512 MiB", 512<<20 + 512: "(536871424 bytes)",
		maxOverlay: "virtual size: 128 TiB",
	} {
		name := filepath.Join(host, fmt.Sprint("overlay", size))
		if err := NewOverlay(name, base, size); err != nil {
			t.Fatal(err)
		}
		if err := NewOverlay(name, base, size); !errors.Is(err, os.ErrExist) {
			t.Errorf("a second time: %v", err)
		}
		// In the tree the base has another name.
		path := filepath.Join(inside, filepath.Base(name))
		tree.Run(t, "/usr/bin/qemu-img", "rebase", "-u", "-F", "raw", "-b", filepath.Join(inside, "base"), path)
		if got := tree.Run(t, "/usr/bin/qemu-img", "check", path); !strings.Contains(got, "No errors were found") {
			t.Errorf("%d bytes: %s", size, got)
		}
		got := tree.Run(t, "/usr/bin/qemu-img", "info", path)
		for _, want := range []string{"file format: qcow2", "compat: 1.1", "backing file format: raw", want} {
			if !strings.Contains(got, want) {
				t.Errorf("%d bytes: %q is not in\n%s", size, want, got)
			}
		}
	}
	tree.Run(t, "/usr/bin/qemu-img", "compare", "-f", "qcow2", "-F", "raw", inside+"/overlay0", inside+"/base")
}

func TestOverlayRefusals(t *testing.T) {
	for want, err := range map[string]error{
		"want 1 to 1023": WriteOverlay(io.Discard, strings.Repeat("x", 1024), 512),
		"0 bytes: want":  WriteOverlay(io.Discard, "", 512),
		"of 513 bytes":   WriteOverlay(io.Discard, "base", 513),
		"of -512 bytes":  WriteOverlay(io.Discard, "base", -512),
		"of 1407374883":  WriteOverlay(io.Discard, "base", maxOverlay+512),
		"no such file":   NewOverlay(filepath.Join(t.TempDir(), "o"), "/none", 0),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
