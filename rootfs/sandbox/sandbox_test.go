package sandbox

import (
	"context"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	Main(nil)
	os.Exit(m.Run())
}

func TestHello(t *testing.T) {
	for _, ids := range []IDs{Caller, Range} {
		err := Run(context.Background(), Spec{Root: "/", ReadOnlyRoot: true, IDs: ids, Argv: []string{"/bin/sh", "-c", "id; cat /proc/self/uid_map; ls -l /dev /proc/1/exe; mount; ps aux; ls -ld /root /tmp; ip a; env; cat /proc/self/status | grep -E 'Cap|NoNew|Sig|Secc'; ulimit -a; echo hi > /dev/stderr"}, Stdout: os.Stdout, Stderr: os.Stderr})
		t.Log(err)
	}
	t.Log(Run(context.Background(), Spec{Call: probeCall}))
}
