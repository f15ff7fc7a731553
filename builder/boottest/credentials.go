package boottest

import _ "embed"

// PortName is the name of the virtio-serial port between agent and host.
const PortName = "applbuild.test"

// A Credential is a system credential that a machine is started with.
type Credential struct {
	Name  string
	Value []byte
}

//go:embed agent
var agentScript []byte

//go:embed applbuild-test.service
var agentService []byte

// Credentials returns what brings the agent into a machine. The unit is wanted by
// a target that every boot comes by.
func Credentials() []Credential {
	const unit = "applbuild-test.service"
	return []Credential{
		{"applbuild.agent", agentScript},
		{"systemd.extra-unit." + unit, agentService},
		{"systemd.unit-dropin.sysinit.target", []byte("[Unit]\nWants=" + unit + "\n")},
	}
}
