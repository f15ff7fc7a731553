package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// tpmTime is left to swtpm for writing its state after QEMU's end.
const tpmTime = 5 * time.Second

// A tpm is a swtpm(8) that runs. It ends with QEMU's end of the connection.
type tpm struct {
	kill   context.CancelFunc
	ended  chan struct{}
	stderr tail
}

// startTPM starts swtpm and returns QEMU's end of the connection to it. The
// caller closes that after QEMU's end.
func (g *Guest) startTPM(ctx context.Context) (*tpm, *os.File, error) {
	// What swtpm writes is as secret as what the guest seals by it.
	dir := filepath.Join(g.state, "tpm")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("vm: folder for the TPM's state: %w", err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	defer ours.Close()
	end, err := ours.File()
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("vm: connection to the TPM: %w", err)
	}
	ctx, kill := context.WithCancel(context.WithoutCancel(ctx))
	t := &tpm{kill: kill, ended: make(chan struct{})}
	command := Command{
		Argv: []string{
			orDefault(g.m.TPMProgram, "swtpm"), "socket", "--tpm2", "--terminate",
			"--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,clientfd=3",
		},
		Env:   []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + g.dir},
		Files: []*os.File{theirs}, Paths: []Path{{Name: g.dir, Write: true}, {Name: dir, Write: true}},
		Stdout: &t.stderr, Stderr: &t.stderr,
	}
	go func() {
		defer close(t.ended)
		err := g.m.Runner.Run(ctx, command)
		// QEMU sees that nobody answers any more.
		theirs.Close()
		if err != nil {
			fmt.Fprintln(&t.stderr, err)
		}
	}()
	return t, end, nil
}

// wait waits for the TPM's end once QEMU has ended.
func (t *tpm) wait() {
	limit := time.NewTimer(tpmTime)
	defer limit.Stop()
	select {
	case <-t.ended:
	case <-limit.C:
	}
	t.kill()
	<-t.ended
}
