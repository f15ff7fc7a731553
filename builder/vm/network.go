package vm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Network is what the machine's network card is joined to. A card gets its
// address by DHCP from QEMU: 10.0.2.15, or else what is asked for of 10.0.2.0/24.
type Network string

const (
	NetworkNone Network = "none" // no card; also "" where no port is forwarded
	NetworkUser Network = "user" // the host's network, as a program of the host sees it
	// NetworkIsolated has a card, DHCP and the forwarded ports, but neither a
	// gateway nor a name server, and no way out.
	NetworkIsolated Network = "isolated"
)

// A Forward leads from a TCP port of the host's loopback address to one of the
// guest.
type Forward struct {
	Host  int // 0 is a free one, which [Guest.Forwards] tells
	Guest int
}

// forwards are all ports that lead to the guest.
func (m *Machine) forwards() []Forward {
	if m.SSHPort == 0 {
		return m.Forwards
	}
	return append([]Forward{{Host: m.SSHPort, Guest: 22}}, m.Forwards...)
}

// network is what the card is joined to, NetworkNone where there is none.
func (m *Machine) network() Network {
	if m.Network == "" && len(m.forwards()) > 0 {
		return NetworkUser
	}
	return orDefault(m.Network, NetworkNone)
}

func (m *Machine) checkNetwork() error {
	switch m.Network {
	case "", NetworkNone, NetworkUser, NetworkIsolated:
	default:
		return fmt.Errorf("vm: network %q: want none, user or isolated", m.Network)
	}
	if m.Network == NetworkNone && len(m.forwards()) > 0 {
		return errors.New("vm: ports are forwarded to a machine without a network")
	}
	hosts := map[int]bool{}
	for _, f := range m.forwards() {
		if f.Host < 0 || f.Host > 65535 || f.Guest < 1 || f.Guest > 65535 {
			return fmt.Errorf("vm: forward %d:%d: ports are 1 to 65535, the host's 0 for a free one", f.Host, f.Guest)
		}
		if f.Host != 0 && hosts[f.Host] {
			return fmt.Errorf("vm: two ports of the guest are forwarded from port %d of the host", f.Host)
		}
		hosts[f.Host] = true
	}
	return nil
}

// networkArgs are QEMU's arguments for the card.
func (m *Machine) networkArgs(forwards []Forward) []string {
	network := m.network()
	if network == NetworkNone {
		return []string{"-nic", "none"}
	}
	backend := "user,id=net0"
	if network == NetworkIsolated {
		backend += ",restrict=on"
	}
	for _, f := range forwards {
		backend += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	// Without a boot ROM the firmware has nothing to try.
	return []string{"-netdev", backend, "-device", "virtio-net-pci,id=nic0,netdev=net0,romfile="}
}

// boundPorts finds the host's ports in what QEMU's monitor says to "info
// usernet": lines of protocol, file descriptor, source address and port,
// destination address and port, and two queues.
func boundPorts(usernet string, wanted []Forward) ([]Forward, error) {
	byGuest := map[int][]int{}
	for line := range strings.Lines(usernet) {
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != "TCP[HOST_FORWARD]" {
			continue
		}
		host, errHost := strconv.Atoi(f[3])
		guest, errGuest := strconv.Atoi(f[5])
		if errHost == nil && errGuest == nil {
			byGuest[guest] = append(byGuest[guest], host)
		}
	}
	bound := make([]Forward, 0, len(wanted))
	for _, f := range wanted {
		if f.Host == 0 {
			free := byGuest[f.Guest]
			for len(free) > 0 && isWanted(wanted, free[0], f.Guest) {
				free = free[1:]
			}
			if len(free) == 0 {
				return nil, fmt.Errorf("vm: QEMU does not say from which port of the host it forwards to the guest's port %d", f.Guest)
			}
			f.Host, byGuest[f.Guest] = free[0], free[1:]
		}
		bound = append(bound, f)
	}
	return bound, nil
}

func isWanted(wanted []Forward, host, guest int) bool {
	for _, f := range wanted {
		if f.Host == host && f.Guest == guest {
			return true
		}
	}
	return false
}
