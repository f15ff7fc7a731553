package overlay

import _ "embed" // for the directives below

// The units and their drop-ins of the root and of the initrd; a name
// between @ is filled in.
var (
	//go:embed files/root/applbuild-ssh-keys.service
	sshKeysUnit string
	//go:embed files/root/applbuild-settled.service
	settledUnit string
	//go:embed files/root/settle
	settleScript string
	//go:embed files/root/cloud.cfg
	cloudConfig string
	//go:embed files/initrd/state
	stateProgram string
	//go:embed files/initrd/applbuild-state.service
	stateUnit string
	//go:embed files/initrd/run-applbuild.mount
	stateMount string
	//go:embed files/initrd/emergency.service
	emergencyUnit string
	//go:embed files/initrd/journald.conf
	journaldDropIn string
	//go:embed files/initrd/udev-trigger.conf
	triggerDropIn string
	//go:embed files/initrd/udevd.conf
	udevdDropIn string
)
