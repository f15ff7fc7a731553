package boots

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/cidata"
	"github.com/applbuild/applbuild/recipes"
)

// loadTests reads a list of tests.
func loadTests(t *testing.T, text string) []recipes.Test {
	t.Helper()
	tests, err := recipes.LoadTests("tests.yml", recipes.Options{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

func TestTestsBecomeAPlan(t *testing.T) {
	machine := &testMachine{}
	plan, err := machine.plan(loadTests(t, `tests:
  - machine: {memory: 2G, bus: virtio, allow_failed: a.service}
  - {run: "echo one\necho two", timeout: 5s, expect: {exit: 1, stdout: x}}
  - unit: ssh.service
  - port: {port: 53, protocol: udp, closed: true}
  - file: {path: /a, mode: 0640, owner: root}
  - journal: {unit: a.service, has: b}
  - mounted: {path: /data, at_least: 1G}
  - boot_time: 3
  - ssh: {user: root, port: 2022}
  - add_disk: 1G
  - grow_disk: 2G
  - {name: cut, power_cut: 3s}
  - corrupt: {partition: root}
  - boot: {fails: true}
  - boot: {console: hello}
  - reboot: {}
  - poweroff: {}
  - network: none
  - cmdline: quiet
  - cidata: none
  - wait: 1s
`))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, step := range plan {
		names = append(names, step.Name)
	}
	want := []string{
		"machine", "machine", "echo one…", "ssh.service is active", "udp port 53 is closed", "/a is as expected",
		"journal of a.service is as expected", "/data is mounted", "multi-user.target is reached in time", "root logs in by SSH",
		"disk disk1 is added", "disk system grows to 2G", "cut", "root is corrupted", "does not boot", "boots", "reboots",
		"powers off", "network none", "command line", "cidata", "wait",
	}
	if got := strings.Join(names, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("names:\n%s", got)
	}
	run := plan[2].Action.(boottest.RunCheck)
	if run.Command != "echo one\necho two" || run.Expect.Exit != 1 || run.Expect.Stdout.Contains[0] != "x" || plan[2].Limit.Seconds() != 5 {
		t.Errorf("command: %+v", plan[2])
	}
	if file := plan[5].Action.(boottest.FileCheck); *file.Mode != 0o640 || file.Group != "root" {
		t.Errorf("file: %+v", file)
	}
	if boot := plan[15].Action.(boottest.Boot); boot.Fails || boot.Console.Contains[0] != "hello" || !plan[14].Action.(boottest.Boot).Fails {
		t.Errorf("boot: %+v", boot)
	}
	if machine.template.Slots != 1 || len(machine.ports) != 1 || machine.ports[0] != 2022 || !machine.rootKey {
		t.Errorf("machine: %+v", machine)
	}
	if plan, err = machine.plan(nil); err != nil || len(plan) != 1 {
		t.Errorf("a recipe without tests: %+v, %v", plan, err)
	}
}

func TestTheMachineIsChanged(t *testing.T) {
	dir := t.TempDir()
	machine := &testMachine{dir: dir, network: vm.NetworkIsolated}
	if err := machine.addDisk(t.Context(), "system", "", 1<<20); err != nil {
		t.Fatal(err)
	}
	yes := true
	machine.rebuild(&recipes.TestMachine{Memory: 2 << 30, CPUs: 3, Bus: "nvme", TPM: &yes, Disk: 4 << 20})
	if m := machine.template; m.Memory != 2<<30 || m.CPUs != 3 || !m.TPM || machine.bus != vm.BusNVMe || machine.size != 4<<20 {
		t.Errorf("machine: %+v", machine)
	}
	if err := machine.growDisk(t.Context(), "system", 2<<20+1); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(machine.disks[0].Path); err != nil || info.Size() != 2<<20+512 {
		t.Errorf("the disk has %d bytes (%v)", info.Size(), err)
	}
	if err := machine.growDisk(t.Context(), "system", 1<<20); err == nil {
		t.Error("a disk has shrunk")
	}
	if err := machine.addDisk(t.Context(), "copy", machine.disks[0].Path, 0); err != nil || machine.disks[1].Serial != "copy" {
		t.Errorf("disks %+v, %v", machine.disks, err)
	}
	if err := machine.setNetwork(t.Context(), vm.NetworkNone); err != nil || machine.network != vm.NetworkNone {
		t.Errorf("network %s, %v", machine.network, err)
	}
}

func TestTheSeedHasTheKeyOfTheRun(t *testing.T) {
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed.yml")
	if err := os.WriteFile(seed, []byte("hostname: web1\nusers: [{name: ops}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	machine := &testMachine{dir: dir}
	if _, err := machine.makeKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := machine.setSeed(&recipes.CidataStep{SeedFile: seed, TestKeyFor: "ops"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(machine.seed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	read, err := cidata.Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	data, _ := read.File(cidata.UserData)
	if !bytes.Contains(data, bytes.TrimSpace(machine.publicKey)) {
		t.Errorf("user-data without %s:\n%s", machine.publicKey, data)
	}
	if err := machine.setSeed(&recipes.CidataStep{}); err != nil || machine.seed != "" {
		t.Errorf("seed %q, %v", machine.seed, err)
	}
}

func TestCorruptionIsWhereItIsSaid(t *testing.T) {
	if _, err := exec.LookPath("sfdisk"); err != nil {
		t.Skip("SKIPPED: sfdisk is missing, which makes the disk to corrupt")
	}
	path := filepath.Join(t.TempDir(), "disk.raw")
	cmd := exec.Command("sfdisk", "-q", path)
	cmd.Stdin = strings.NewReader("label: gpt\nstart=1MiB,size=1MiB,type=uefi\nstart=2MiB,size=4MiB,type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709,name=root-1\n")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	machine := &testMachine{disks: []vm.Drive{{ID: "system", Path: path}}}
	block, offset := 3, recipes.Size(100)
	for _, test := range []struct {
		step recipes.CorruptStep
		at   int64 // of the first byte that is another; -1 for an error
	}{
		{recipes.CorruptStep{Partition: "root-1", Block: &block}, 2<<20 + 3*4096},
		{recipes.CorruptStep{Partition: "root"}, 2 << 20},
		{recipes.CorruptStep{Partition: "root-x86-64", Offset: &offset}, 2<<20 + 100},
		{recipes.CorruptStep{Partition: "esp"}, 1 << 20},
		{recipes.CorruptStep{}, 0},
		{recipes.CorruptStep{Partition: "data"}, -1},
		{recipes.CorruptStep{Disk: "other"}, -1},
		{recipes.CorruptStep{Partition: "root", Length: 4<<20 + 1}, -1},
	} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		step := test.step
		if step.Disk == "" {
			step.Disk = "system"
		}
		if step.Length == 0 {
			step.Length = 4096
		}
		if err := machine.corrupt(&step); (err != nil) != (test.at < 0) {
			t.Errorf("%+v: %v", step, err)
		}
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if test.at >= 0 && bytes.Equal(before[test.at:test.at+1], after[test.at:test.at+1]) || test.at > 0 && !bytes.Equal(before[:test.at], after[:test.at]) {
			t.Errorf("%+v does not begin at %d", step, test.at)
		}
		// The next one begins with the same disk.
		if test.at >= 0 {
			if err := os.WriteFile(path, before, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestACopyKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 5 << 20, 90 << 20} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(100 << 20); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(t.Context(), to, from); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy is another file (%v)", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(to, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy takes %d bytes (%v)", st.Blocks*512, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := copySparse(ctx, to+"2", from); err == nil {
		t.Error("a copy goes on after an interruption")
	}
}
