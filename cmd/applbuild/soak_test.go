package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/boots"
	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/cidata"
	"github.com/applbuild/applbuild/recipes"
)

// soakVariable says how many first boots and how many power cuts there are, in
// place of the few of a usual run. soakSeedVariable is the seed that the moments
// of the cuts are drawn by.
const (
	soakVariable     = "APPLBUILD_SOAK"
	soakSeedVariable = "APPLBUILD_SOAK_SEED"
)

// soakNumber is a number of the environment.
func soakNumber(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s is no number", name, text)
	}
	return n
}

// firstBoot is how long the slowest first boot of this run took, from power to the
// end of the last job; 0 when there was none yet.
var firstBoot time.Duration

// First boots in a row come up: none that stops, waits, oopses or has a unit that
// failed.
func TestFirstBoots(t *testing.T) {
	n := soakNumber(t, soakVariable, 1)
	m := newSoakMachine(t)
	var reached []float64
	for i := range n {
		t.Run(fmt.Sprintf("first boot %d", i+1), func(t *testing.T) {
			m.fresh(t, i+1)
			report := m.judge(t, fmt.Sprintf("first boot %d of %d", i+1, n), nil)
			for _, r := range report.Results {
				var after float64
				if _, err := fmt.Sscanf(r.Note, "multi-user.target %f s", &after); err == nil {
					reached = append(reached, after)
					firstBoot = max(firstBoot, r.Took)
					t.Logf("multi-user.target after %.1f s, the boot's end %.1f s after power", after, r.Took.Seconds())
				}
			}
		})
	}
	if len(reached) < n {
		t.Errorf("%d of %d first boots reached multi-user.target", len(reached), n)
	}
	if len(reached) > 0 {
		slices.Sort(reached)
		t.Logf("%d first boots (%s), multi-user.target after: min %.1f s, median %.1f s, max %.1f s",
			len(reached), m.accel, reached[0], reached[len(reached)/2], reached[len(reached)-1])
	}
}

// A first boot whose power is cut, at whatever moment, leaves a machine that comes
// up at the next start, with its identity and with all that was synced.
func TestPowerCuts(t *testing.T) {
	n, seed := soakNumber(t, soakVariable, 1), soakNumber(t, soakSeedVariable, 1)
	t.Logf("%s=%d", soakSeedVariable, seed)
	m := newSoakMachine(t)
	if firstBoot == 0 {
		m.fresh(t, 0)
		firstBoot = m.judge(t, "a first boot without a cut", nil).Results[0].Took
	}
	// Each cut has a part of the time for itself; together they cover all of it.
	for i, part := range rand.New(rand.NewPCG(uint64(seed), uint64(n))).Perm(n) {
		t.Run(fmt.Sprintf("cut %d", i+1), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), uint64(n+i+1)))
			// Writing makes a boot longer, and a machine that has just been set up is
			// cut, too.
			span := 1.5 * float64(firstBoot)
			after := time.Duration(span * (float64(part) + rng.Float64()) / float64(n))
			m.fresh(t, i+1)
			written := &journal{}
			m.cut(t, after, written)
			// Every third machine has no luck.
			for more := 0; i%3 == 2 && more < 1+rng.IntN(2); more++ {
				m.cut(t, time.Duration(span*rng.Float64()), written)
			}
			m.judge(t, fmt.Sprintf("cut %d of %d, %s=%d", i+1, n, soakSeedVariable, seed), written)
		})
	}
}

// A soakMachine is one that debian-cloud's disk is booted in, with its seed. It
// implements boottest.Machine.
type soakMachine struct {
	template vm.Machine
	dir      string // of what is removed in the end
	consoles string // folder, kept where something failed
	image    string
	key      ssh.Signer
	accel    string // of the last boot: kvm or tcg

	disk   int          // number of the disk at hand
	boots  int          // of that disk
	writes *journal     // of the next boot, nil where it writes nothing
	guests []*soakGuest // of that disk
}

const soakDisk = 4 << 30 // bytes: the image is enlarged

func newSoakMachine(t *testing.T) *soakMachine {
	t.Helper()
	long(t)
	store := os.Getenv(storeVariable)
	if store == "" {
		store = built.disk(t).store
	}
	m := &soakMachine{dir: t.TempDir()}
	recipe := filepath.Join(m.dir, "debian-cloud.yml")
	if err := os.CopyFS(m.dir, recipes.Files); err != nil {
		t.Fatal(err)
	}
	applbuild(t, "image", recipe, "--store", store, "--architecture", "amd64", "--output", m.dir).succeeds(t)
	m.image = filepath.Join(m.dir, "debian-cloud_1_amd64.raw")
	m.makeSeed(t)
	s := &settings{stdout: temporary(t), stderr: temporary(t), store: store, quiet: true, logFormat: "text"}
	err := s.withBuilder(t.Context(), func(b *builder.Builder, p *progress) error {
		template, err := boots.NewMachine(t.Context(), b, boots.Options{
			Image: m.image, Arch: "amd64", Timeout: -1, Network: vm.NetworkIsolated,
			Forwards: []vm.Forward{{Guest: 22}}, Notice: p.Notice, Now: time.Now,
		}, m.dir)
		if err == nil {
			m.template = *template
			m.template.Warn = nil
		}
		return err
	})
	if err == nil {
		m.consoles, err = os.MkdirTemp("", "applbuild-soak-")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("consoles: %s", m.consoles)
		} else {
			removeAll(t, m.consoles)
		}
	})
	return m
}

// makeSeed makes the recipe's own seed, with a key for its user.
func (m *soakMachine) makeSeed(t *testing.T) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.key, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, m.dir, "key.pub", string(ssh.MarshalAuthorizedKey(line)))
	seed, err := cidata.Load("../../recipes/seeds/debian-cloud.yml", cidata.LoadOptions{
		Settings: cidata.Settings{User: "ops", SSHKeyFiles: []string{file}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var iso bytes.Buffer
	if err := seed.WriteISO(&iso); err != nil {
		t.Fatal(err)
	}
	writeFile(t, m.dir, "seed.iso", iso.String())
}

// fresh puts a new disk into a new machine.
func (m *soakMachine) fresh(t *testing.T, number int) {
	t.Helper()
	removeAll(t, m.path("qcow2"))
	removeAll(t, m.path("state"))
	m.disk, m.boots, m.guests = number, 0, nil
	if err := vm.NewOverlay(m.path("qcow2"), m.image, soakDisk); err != nil {
		t.Fatal(err)
	}
}

// path is the name of what belongs to the disk at hand.
func (m *soakMachine) path(what string) string {
	return filepath.Join(m.dir, fmt.Sprintf("disk%d.%s", m.disk, what))
}

// Start implements boottest.Machine. What is not flushed is lost when the power
// is cut, since the disk is an overlay.
func (m *soakMachine) Start(ctx context.Context) (boottest.Guest, error) {
	m.boots++
	machine := m.template
	machine.Disks = []vm.Drive{
		{Path: m.path("qcow2"), Format: "qcow2", Backing: m.image, Write: true},
		{ID: "seed", Path: filepath.Join(m.dir, "seed.iso"), ReadOnly: true},
	}
	machine.State = m.path("state")
	machine.Ports = []string{boottest.PortName, writerPort}
	// The image's release, whose systemd takes units from the host.
	agent, err := boottest.Credentials("ID=debian\nVERSION_ID=13\n")
	if err != nil {
		return nil, err
	}
	if m.writes != nil {
		agent = append(agent, writer(m.boots)...)
	}
	for _, c := range agent {
		machine.Credentials = append(machine.Credentials, vm.Credential(c))
	}
	guest, err := boots.Start(ctx, &machine, filepath.Join(m.consoles, fmt.Sprintf("disk%d.boot%d.console", m.disk, m.boots)))
	if err != nil {
		return nil, err
	}
	m.accel = guest.Accel()
	g := &soakGuest{Guest: guest}
	if written := m.writes; written != nil {
		g.reading.Go(func() { written.read(guest.Guest.Port(writerPort)) })
	}
	m.guests = append(m.guests, g)
	return g, nil
}

// cut starts the machine and cuts its power after a time.
func (m *soakMachine) cut(t *testing.T, after time.Duration, written *journal) {
	t.Helper()
	m.writes = written
	before := len(written.list())
	guest, err := m.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	power := time.NewTimer(after)
	defer power.Stop()
	select {
	case <-power.C:
	case <-guest.Done():
		t.Errorf("boot %d ended by itself: %s", m.boots, guest.End())
	}
	guest.PowerCut()
	guest.Close()
	t.Logf("disk %d, boot %d: the power was cut after %.1f s, when %d files were synced%s",
		m.disk, m.boots, after.Seconds(), len(written.list())-before, written.reached(m.boots))
}

// judge boots the machine, says what is wrong with it, and switches it off.
// written is what was synced before; it is nil for a first boot.
func (m *soakMachine) judge(t *testing.T, name string, written *journal) *boottest.Report {
	t.Helper()
	m.writes = nil
	runner := boottest.Runner{Machine: m, Now: time.Now, Key: m.key}
	report, err := runner.Run(t.Context(), soakPlan(written))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, r := range report.Results {
		if r.Status != boottest.Passed {
			t.Errorf("%s: %s: %s\n    %s", name, r.Status, r.Name, strings.Join(r.Details, "\n    "))
		}
	}
	for i, g := range m.guests {
		for _, f := range g.Findings() {
			if f.Kind == vm.KernelStall && g.Accel() == "tcg" {
				t.Logf("%s: boot %d of its disk: %s", name, i+1, f) // the host was busy
				continue
			}
			t.Errorf("%s: boot %d of its disk: %s", name, i+1, f)
		}
	}
	if t.Failed() {
		t.Logf("%s: consoles: %s", name, filepath.Join(m.consoles, fmt.Sprintf("disk%d.*", m.disk)))
	}
	return report
}

// soakPlan is what a machine that was set up by its seed shows.
func soakPlan(written *journal) boottest.Plan {
	plan := boottest.Plan{{Name: "comes up", Action: boottest.Boot{}}}
	check := func(name string, action boottest.Action) {
		plan = append(plan, boottest.Step{Name: name, Limit: boottest.DefaultBoot, Action: action})
	}
	if written != nil {
		check("what was synced is there", boottest.RunCheck{Command: written.command()})
	}
	check("cloud-init is done", boottest.RunCheck{
		Command: "cloud-init status --wait --long",
		Expect:  boottest.Expect{Stdout: boottest.Match{Contains: []string{"status: done", "DataSourceNoCloud", "errors: []"}, Not: []string{"degraded"}}},
	})
	check("the seed's user logs in with its key", boottest.SSHCheck{
		User: "ops", Port: 22, Command: "sudo -n id -un", Expect: boottest.Expect{Stdout: boottest.Match{Equals: "root"}},
	})
	check("has its name and file", boottest.RunCheck{
		Command: "hostname; cat /etc/motd", Expect: boottest.Expect{Stdout: boottest.Match{Equals: "cloud1\nSeeded."}},
	})
	id := boottest.Match{Contains: []string{"/^[0-9a-f]{32}\n$/"}}
	if written != nil && written.settled != "" {
		id = boottest.Match{Equals: written.settled}
	}
	check("has an id", boottest.FileCheck{Path: "/etc/machine-id", Kind: "file", Contents: &id})
	check("host keys are valid", boottest.RunCheck{Command: hostKeys})
	check("nothing was waited for in vain", boottest.JournalCheck{HasNot: []string{
		"/(?i)timed out/", "Timeout occurred", "Dependency failed", "ordering cycle",
	}})
	check("the kernel is well", boottest.RunCheck{
		Command: "journalctl --dmesg --boot --quiet --no-pager --output=cat",
		Expect:  boottest.Expect{Stdout: boottest.Match{Not: []string{"/BUG: (unable|kernel|scheduling|sleeping)/", "kernel BUG at", "Oops: ", "general protection fault", "EXT4-fs error", "I/O error"}}},
	})
	return plan
}

// hostKeys fails for a host key that is none, or whose halves do not fit.
const hostKeys = `set -e
systemctl is-active --quiet ssh.service || systemctl is-active --quiet ssh.socket
cd /etc/ssh
for key in ssh_host_*_key; do
    ssh-keygen -l -f $key.pub
    [ "$(ssh-keygen -y -f $key | cut -d ' ' -f 1,2)" = "$(cut -d ' ' -f 1,2 $key.pub)" ]
done
[ -s ssh_host_ed25519_key ]`

// A soakGuest is a boot of the machine, which may write to a port.
type soakGuest struct {
	*boots.Guest
	reading sync.WaitGroup
	closed  sync.Once
}

// Close implements boottest.Guest. All that the guest had said is read then.
func (g *soakGuest) Close() {
	g.closed.Do(func() {
		g.PowerCut()
		g.reading.Wait()
		g.Guest.Close()
	})
}
