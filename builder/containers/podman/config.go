package podman

import (
	"fmt"
	"strings"
)

// Where podman looks for storage.conf. Debian and Ubuntu ship neither file,
// and the first one that is there counts alone.
const (
	// SystemConfig is for root's containers. Those of ordinary users do not get
	// additional stores from it.
	SystemConfig = "etc/containers/storage.conf"
	// UserConfig is for the containers of an ordinary user, in the home folder.
	UserConfig = ".config/containers/storage.conf"
)

// StorageConf is a storage.conf with additional image stores, absolute paths.
// runRoot and graphRoot are where podman keeps what it writes, for as long as the
// machine runs and for longer; "" is its default. graphRoot must not lie on an
// overlay, which podman refuses to put its own upon.
func StorageConf(runRoot, graphRoot string, stores ...string) []byte {
	var b strings.Builder
	b.WriteString("[storage]\ndriver = \"overlay\"\n")
	if runRoot != "" {
		fmt.Fprintf(&b, "runroot = %q\n", runRoot)
	}
	if graphRoot != "" {
		fmt.Fprintf(&b, "graphroot = %q\n", graphRoot)
	}
	b.WriteString("\n[storage.options]\nadditionalimagestores = [")
	for i, store := range stores {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", store)
	}
	b.WriteString("]\n")
	return []byte(b.String())
}
