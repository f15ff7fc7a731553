package sandbox

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// syncPipe asks for what no kernel does: a pipe has no disk to wait for.
func syncPipe(context.Context, []byte, []*os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	for _, sync := range []func(int) error{unix.Fsync, unix.Fdatasync} {
		if err := sync(int(w.Fd())); err != nil {
			return err
		}
	}
	return nil
}

func TestNoSyncLetsSyncsSucceedWithoutBeingDone(t *testing.T) {
	for _, ids := range []IDs{Caller, Range} {
		var refused *CallError
		if err := Run(t.Context(), Spec{IDs: ids, Call: "sync"}); !errors.As(err, &refused) {
			t.Errorf("a pipe could be synced: %v", err)
		}
		if err := Run(t.Context(), Spec{IDs: ids, Call: "sync", NoSync: true}); err != nil {
			t.Errorf("with NoSync: %v", err)
		}
		// Programs inherit it, and everything else goes on as before.
		s := script(ids, "sync && echo text >/tmp/file && cat /tmp/file")
		s.NoSync = true
		if err := Run(t.Context(), s); err != nil {
			t.Errorf("a program with NoSync: %v", err)
		}
	}
}
