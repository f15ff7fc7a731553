package rootfs

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// BenchmarkBuild makes the tree of an appliance and reports the processor time
// of each step in seconds, user and system, of all processes.
func BenchmarkBuild(b *testing.B) {
	needSandbox(b)
	base := debian(b, "trixie").base(b, "systemd", "systemd-sysv", "systemd-resolved", "udev", "dbus", "linux-image-cloud-amd64",
		"cloud-init", "podman", "openssh-server", "netplan.io", "ca-certificates", "iproute2")
	spent := map[string]time.Duration{}
	step := func(name string, do func() error) {
		before := processorTime(b)
		if err := do(); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		spent[name] += processorTime(b) - before
	}
	for b.Loop() {
		base.Scratch = scratchDir(b)
		tree := filepath.Join(base.Scratch, "tree")
		out, err := os.Create(filepath.Join(base.Scratch, "tree.tar"))
		if err != nil {
			b.Fatal(err)
		}
		ctx := context.Background()
		var unpacked *unpackResult
		step("skeleton", func() error {
			if err := sandbox.MakeOwned(ctx, tree); err != nil {
				return err
			}
			return base.skeleton(ctx, tree)
		})
		step("unpack", func() (err error) { unpacked, err = base.unpack(ctx, tree); return err })
		step("configure", func() error { return base.configure(ctx, tree, unpacked.System) })
		step("pack", func() error { return base.pack(ctx, tree, out) })
		out.Close()
	}
	for name, d := range spent {
		b.ReportMetric(d.Seconds()/float64(b.N), name+"-cpu-s/op")
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var self, children syscall.Rusage
	for who, usage := range map[int]*syscall.Rusage{syscall.RUSAGE_SELF: &self, syscall.RUSAGE_CHILDREN: &children} {
		if err := syscall.Getrusage(who, usage); err != nil {
			b.Fatal(err)
		}
	}
	total := time.Duration(0)
	for _, t := range []syscall.Timeval{self.Utime, self.Stime, children.Utime, children.Stime} {
		total += time.Duration(t.Nano())
	}
	return total
}
