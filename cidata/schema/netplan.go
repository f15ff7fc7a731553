package schema

import (
	"slices"
	"strings"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

// interfaceKeys are the keys of an interface that netplan 1.1 knows, of which
// cloud-init's schema knows some, for any kind of interface and by kind (netplan's
// documentation, "YAML configuration").
func interfaceKeys(kind string) []string {
	common := "accept-ra activation-mode addresses critical dhcp-identifier dhcp4 dhcp4-overrides dhcp6 dhcp6-overrides " +
		"gateway4 gateway6 hairpin ignore-carrier ipv6-address-generation ipv6-address-token ipv6-mtu ipv6-privacy " +
		"link-local macaddress mtu nameservers neigh-suppress networkmanager openvswitch optional optional-addresses " +
		"port-mac-learning ra-overrides renderer routes routing-policy"
	more := map[string]string{
		"ethernets": " auth delay-virtual-functions-rebind embedded-switch-mode emit-lldp generic-receive-offload " +
			"generic-segmentation-offload infiniband-mode large-receive-offload link match receive-checksum-offload set-name " +
			"tcp-segmentation-offload tcp6-segmentation-offload transmit-checksum-offload virtual-function-count wakeonlan wakeonwlan",
		"bonds":   " interfaces parameters",
		"bridges": " interfaces parameters",
		"vlans":   " id link",
	}
	return strings.Fields(common + more[kind])
}

// unseen finds keys of interfaces that neither cloud-init nor netplan knows.
// cloud-init's schema of version 2 allows any there, and netplan ends with an
// error at boot, without a network.
func unseen(network *value, path string) (problems []Problem) {
	for _, kind := range []string{"ethernets", "bonds", "bridges", "vlans"} {
		interfaces := network.get(kind)
		if interfaces == nil || interfaces.kind != mapping {
			continue
		}
		known := interfaceKeys(kind)
		for _, each := range interfaces.entries {
			for _, e := range each.value.entries {
				if e.key.kind == text && slices.Contains(known, e.key.text) {
					continue
				}
				message := "unknown key"
				if close := nearest.Names(e.key.text, known, 1); len(close) > 0 {
					message += ", did you mean " + close[0] + "?"
				}
				problems = append(problems, Problem{Line: e.key.line, Column: e.key.column, Unknown: true, Accepted: true, Message: message,
					Path: strings.TrimPrefix(strings.Join([]string{path, kind, each.key.text, e.key.text}, "."), ".")})
			}
		}
	}
	return problems
}
