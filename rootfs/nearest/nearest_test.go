package nearest_test

import (
	"slices"
	"testing"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		name       string
		candidates []string
		want       []string
	}{
		{"pacakges", []string{"packages", "release", "users"}, []string{"packages"}},
		{"hostnam", []string{"hostname", "name", "timezone"}, []string{"hostname"}},
		{"Locale", []string{"locale"}, []string{"locale"}},
		{"xyz", []string{"packages", "users"}, nil},
		{"ab", []string{"cd", "xy"}, nil},
		{"sshd.service", []string{"ssh.service", "sshd.socket", "sss.service"}, []string{"ssh.service", "sss.service"}},
		{"", []string{"a"}, nil},
		{"user", []string{"users", "users"}, []string{"users"}},
	} {
		if got := nearest.Names(test.name, test.candidates, 2); !slices.Equal(got, test.want) {
			t.Errorf("Names(%q) = %q, want %q", test.name, got, test.want)
		}
	}
}
