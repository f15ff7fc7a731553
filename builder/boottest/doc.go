// Package boottest runs a list of checks and steps against a machine and judges
// what comes of them: a shell command inside of it, the state of a unit, a power
// cut, a larger disk. It knows neither recipe nor QEMU: a [Plan] is plain values,
// and what a machine does is behind the interfaces [Machine] and [Guest].
//
// # How checks get into a machine
//
// The image has nothing for them. The machine is started with the system
// credentials that [Credentials] returns (systemd.system-credentials(7)); they
// define a service, which runs a shell script, the agent, for as long as the
// machine runs. systemd 256 or later makes units of credentials
// (systemd-debug-generator(8)); with 252 to 255 they are lines of tmpfiles.d(5)
// that write the unit and have the kernel start it. Neither needs the kernel's command
// line, which Secure Boot closes, or a root that can be written: all goes to /run.
//
// # What agent and host say to each other
//
// The agent opens the virtio-serial port [PortName] and says
//
//	ready 1 BOOT-ID
//
// where 1 is the version of all this. The host sends, one at a time,
//
//	run ID LIMIT KEPT COMMAND
//
// with the time limit in seconds, how much of each output is to be kept in units
// of 512 bytes, and the command in base64, and gets
//
//	end ID STATUS STDOUT STDERR
//
// with the outputs in base64 (a lone dash where there is none) and the status as a
// number, or the word timeout. Fields have one space between them. A line of the
// host that the agent does not know is passed over, as is one of the agent by the
// host: whatever the machine writes, no more of it is kept than was asked for.
package boottest
