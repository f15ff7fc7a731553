package boots

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/cidata"
	"github.com/applbuild/applbuild/recipes"
)

// seedDisk is the id of the seed's disk. Names of other disks have no capitals.
const seedDisk = "SEED"

// A testMachine is the machine that a plan is run against. Its disks are copies.
type testMachine struct {
	template vm.Machine
	dir      string // scratch
	consoles string // what the consoles' files begin with

	bus           vm.Bus
	disks         []vm.Drive // the first is booted from
	size          int64      // that the first is to have at the next start; 0 is as it is
	seed          string     // file of the seed, "" for none
	seeds         int
	network       vm.Network
	ports         []int  // of the guest, which lead to it
	cmdline       string // added to the template's
	rootKey       bool   // root gets the public key without a seed
	boots         int
	guest         *Guest     // the last one; nil before the first start
	started       vm.Machine // as it was started last
	publicKey     []byte     // a line of authorized_keys
	publicKeyFile string
}

// Start implements boottest.Machine.
func (t *testMachine) Start(ctx context.Context) (boottest.Guest, error) {
	if t.size > 0 {
		if err := growFile(t.disks[0].Path, t.size); err != nil {
			return nil, err
		}
		t.size = 0
	}
	m := t.template
	m.Disks = nil
	for _, d := range t.disks {
		d.Bus = t.bus
		m.Disks = append(m.Disks, d)
	}
	if t.seed != "" {
		m.Disks = append(m.Disks, vm.Drive{ID: seedDisk, Path: t.seed, ReadOnly: true})
	}
	m.CmdlineExtra = strings.TrimSpace(m.CmdlineExtra + " " + t.cmdline)
	m.Ports = []string{boottest.PortName}
	m.Credentials = slices.Clone(m.Credentials)
	if t.rootKey {
		m.Credentials = append(m.Credentials, vm.Credential{Name: "ssh.authorized_keys.root", Value: t.publicKey})
	}
	if m.Network = t.network; m.Network != vm.NetworkNone {
		for _, port := range t.ports {
			m.Forwards = append(m.Forwards, vm.Forward{Guest: port})
		}
	}
	t.boots++
	guest, err := Start(ctx, &m, fmt.Sprintf("%s.boot%d.console", t.consoles, t.boots))
	if err != nil {
		return nil, err
	}
	t.guest, t.started = guest, m
	return guest, nil
}

// running is the guest where the machine is on.
func (t *testMachine) running() *Guest {
	if t.guest == nil {
		return nil
	}
	select {
	case <-t.guest.Done():
		return nil
	default:
		return t.guest
	}
}

// rebuild changes what the machine is made of at its next start.
func (t *testMachine) rebuild(m *recipes.TestMachine) {
	if m.Memory != 0 {
		t.template.Memory = int64(m.Memory)
	}
	if m.CPUs != 0 {
		t.template.CPUs = m.CPUs
	}
	if m.TPM != nil {
		t.template.TPM = *m.TPM
	}
	if m.Bus != "" {
		t.bus = vm.Bus(m.Bus)
	}
	t.size = max(t.size, int64(m.Disk))
}

// setSeed makes the seed that the machine finds at its next start.
func (t *testMachine) setSeed(s *recipes.CidataStep) error {
	if s.SeedFile == "" {
		t.seed = ""
		return nil
	}
	var settings cidata.Settings
	if s.TestKeyFor != "" {
		settings = cidata.Settings{User: s.TestKeyFor, SSHKeyFiles: []string{t.publicKeyFile}}
	}
	seed, err := loadSeed(s.SeedFile, settings)
	if err != nil {
		return err
	}
	if seed == nil {
		t.seed, err = existing(s.SeedFile)
		return err
	}
	// A machine that runs may still read the one before.
	t.seeds++
	t.seed = filepath.Join(t.dir, "seed"+strconv.Itoa(t.seeds)+".iso")
	f, err := os.Create(t.seed)
	if err != nil {
		return err
	}
	return errors.Join(seed.WriteISO(f), f.Close())
}

// setNetwork joins the network card of the next start to a network. Of a machine
// that runs the cable is pulled or put back.
func (t *testMachine) setNetwork(ctx context.Context, n vm.Network) error {
	was := t.network
	t.network = n
	if guest := t.running(); guest != nil && was != n && t.started.Network != vm.NetworkNone {
		return guest.SetLink(ctx, n != vm.NetworkNone)
	}
	return nil
}

// makeKey makes the key of the run, and a file with its public half for seeds.
func (t *testMachine) makeKey(random io.Reader) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	public := bytes.TrimSuffix(ssh.MarshalAuthorizedKey(signer.PublicKey()), []byte("\n"))
	t.publicKey = append(public, " applbuild-test\n"...)
	t.publicKeyFile = filepath.Join(t.dir, "test-key.pub")
	return signer, os.WriteFile(t.publicKeyFile, t.publicKey, 0o600)
}
