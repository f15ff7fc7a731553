package builder

import (
	"strings"
	"testing"
)

// An edit leaves the lower layer of a container image as it is; other packages
// and removals make both layers anew, another name neither.
func TestContainerImageKeys(t *testing.T) {
	const recipe = testRecipe + "output: {formats: oci}\n"
	first := buildOf(t, t.TempDir(), recipe, testLock("hello")).keys
	changed := func(k keys) string {
		var list []string
		for _, stage := range []struct {
			name string
			same bool
		}{{"layer", first.layer == k.layer}, {"oci", first.oci == k.oci}, {"output", first.disk == k.disk}} {
			if !stage.same {
				list = append(list, stage.name)
			}
		}
		return strings.Join(list, " ")
	}
	for _, c := range []struct{ set, again string }{
		{"files+=[{path: /etc/issue, content: hi}]", "oci output"},
		{"output.oci.entrypoint=/bin/sh", "oci output"},
		{"output.oci.name=registry.example.com/kiosk:1", "output"},
		{"output.oci.compression=zstd", "layer oci output"},
		{"remove.documentation=true", "layer oci output"},
	} {
		if got := changed(buildOf(t, t.TempDir(), recipe, testLock("hello"), c.set).keys); got != c.again {
			t.Errorf("%s makes again: %s, want: %s", c.set, got, c.again)
		}
	}
	if got := changed(buildOf(t, t.TempDir(), recipe, testLock("hello", "world")).keys); got != "layer oci output" {
		t.Errorf("another package makes again: %s", got)
	}
	tools := testLock("hello")
	tools.Tools[0].SHA256 = strings.Repeat("5", 64)
	if got := changed(buildOf(t, t.TempDir(), recipe, tools).keys); got != "" {
		t.Errorf("another tool makes again: %s", got)
	}
}

// A container that is nothing else has nothing of a machine's in it.
func TestContainerImageIsNoMachine(t *testing.T) {
	img := buildOf(t, t.TempDir(), testRecipe+"output: {formats: oci}\n", testLock("hello", "openssh-server", "dbus", "cloud-init"))
	if img.edits.Hostname != "" || img.edits.Boots {
		t.Errorf("edits %+v", img.edits)
	}
	var names []string
	for _, f := range img.edits.Overlay {
		names = append(names, f.Path)
	}
	if got := strings.Join(names, " "); got != "home opt root srv tmp" {
		t.Errorf("laid over the packages: %s", got)
	}
	both := buildOf(t, t.TempDir(), testRecipe+"boot: none\noutput: {formats: [raw, oci]}\n", testLock("hello"))
	if len(both.edits.Overlay) <= 5 {
		t.Error("the disk beside the container image lacks what a disk has")
	}
}
