package schema

import (
	"bufio"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/cloudinittest"
)

// The words of netplan's library are tried one by one as a key.
func TestKeysOfInterfacesAreNetplans(t *testing.T) {
	cloud := cloudinittest.Find(t)
	kinds := 0
	for lines := bufio.NewScanner(cloud.Run(t, "testdata/netplan.py")); lines.Scan(); kinds++ {
		kind, theirs, _ := strings.Cut(lines.Text(), " ")
		ours := interfaceKeys(kind)
		slices.Sort(ours)
		if got := strings.Join(ours, " "); got != theirs {
			t.Errorf("%s: we know\n%s\nnetplan\n%s", kind, got, theirs)
		}
	}
	if kinds != 4 {
		t.Errorf("netplan told of %d kinds of interface, want 4", kinds)
	}
}

// What cloud-init's schema knows of an interface is known here too.
func TestKeysOfInterfacesHoldTheSchemas(t *testing.T) {
	r := mustLoad(t, networkV2File)
	for kind, name := range map[string]string{"ethernets": "physical", "bonds": "bond", "bridges": "bridge", "vlans": "vlan"} {
		definition := r.oneOf[0].ref.property(kind).additional.ref
		names := definition.properties
		for _, branch := range definition.allOf {
			names = append(names, branch.ref.properties...)
		}
		if len(names) < 10 {
			t.Errorf("%s: the schema has %d keys", name, len(names))
		}
		for _, p := range names {
			if !slices.Contains(interfaceKeys(kind), p.name) {
				t.Errorf("%s.%s is in cloud-init's schema only", kind, p.name)
			}
		}
	}
}
