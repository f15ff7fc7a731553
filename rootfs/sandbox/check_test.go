package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// goodHost has all that an ordinary user's sandboxes need.
func goodHost() fstest.MapFS {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"etc/passwd":                        file("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"),
		"etc/group":                         file("root:x:0:\nann:x:1000:\n"),
		"etc/subuid":                        file("# comment\nbob:100000:65536\nann:165536:65536\n"),
		"etc/subgid":                        file("bob:100000:65536\n1000:231072:65536\n"),
		"usr/bin/newuidmap":                 file(""),
		"usr/bin/newgidmap":                 file(""),
		"proc/sys/user/max_user_namespaces": file("15000\n"),
		"proc/self/ns/user":                 file(""),
		"proc/self/uid_map":                 file("         0          0 4294967295\n"),
		"proc/self/gid_map":                 file("         0          0 4294967295\n"),
		"proc/self/status":                  file("Name:\tx\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n"),
	}
}

func TestCheck(t *testing.T) {
	forbidden := fmt.Errorf("new namespaces: %w", unix.EPERM)
	tests := []struct {
		name  string
		uid   int
		ids   IDs
		files map[string]string // "" removes
		try   error
		want  []string // in the message; none for no error
	}{
		{name: "all is well", uid: 1000, ids: Range},
		{name: "nothing but namespaces for Caller", uid: 1000, ids: Caller, files: map[string]string{"etc/subuid": "", "usr/bin/newuidmap": ""}},
		{name: "restricted but allowed for this program", uid: 1000, ids: Range, files: map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}},
		{name: "no namespaces", uid: 1000, ids: Caller, files: map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, try: fmt.Errorf("clone: %w", unix.ENOSPC),
			want: []string{"user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000", "no space left"}},
		{name: "no namespaces for root", ids: Range, files: map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, try: fmt.Errorf("clone: %w", unix.ENOSPC),
			want: []string{"user.max_user_namespaces is 0"}},
		{name: "no network namespaces", uid: 1000, ids: Caller, files: map[string]string{"proc/sys/user/max_net_namespaces": "0\n"}, try: fmt.Errorf("clone: %w", unix.ENOSPC),
			want: []string{"sysctl -w user.max_net_namespaces=15000"}},
		{name: "Debian's switch", uid: 1000, ids: Caller, files: map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, try: forbidden,
			want: []string{"sysctl -w kernel.unprivileged_userns_clone=1"}},
		{name: "Ubuntu's switch", uid: 1000, ids: Caller, files: map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, try: forbidden,
			want: []string{"kernel.apparmor_restrict_unprivileged_userns is 1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"}},
		{name: "no uidmap", uid: 1000, ids: Range, files: map[string]string{"usr/bin/newuidmap": ""},
			want: []string{"newuidmap and newgidmap are missing", "apt-get install uidmap"}},
		{name: "no subuid", uid: 1000, ids: Range, files: map[string]string{"etc/subuid": ""},
			want: []string{"/etc/subuid has no entry for ann", "usermod --add-subuids 296608-362143 --add-subgids 296608-362143 ann"}},
		{name: "no subgid", uid: 1000, ids: Range, files: map[string]string{"etc/subgid": "bob:100000:65536\n"},
			want: []string{"/etc/subgid has no entry for ann", "usermod --add-subuids 231072-296607"}},
		{name: "small subuid", uid: 1000, ids: Range, files: map[string]string{"etc/subuid": "ann:165536:1000\n"},
			want: []string{"a range of only 1000 ids, not the 65536 needed, for ann"}},
		{name: "no name", uid: 1234, ids: Range,
			want: []string{"no entry for 1234"}},
		{name: "no kernel support", uid: 1000, ids: Caller, files: map[string]string{"proc/self/ns/user": ""}, try: fmt.Errorf("clone: %w", unix.EINVAL),
			want: []string{"CONFIG_USER_NS"}},
		{name: "seccomp", uid: 1000, ids: Caller, files: map[string]string{"proc/self/status": "Seccomp:\t2\n"}, try: forbidden,
			want: []string{"seccomp=unconfined"}},
		{name: "container's root", ids: Range, files: map[string]string{"proc/self/status": "CapEff:\t00000000a80425fb\nSeccomp:\t2\n"}, try: forbidden,
			want: []string{"root lacks CAP_SYS_ADMIN", "--privileged", "seccomp=unconfined"}},
		{name: "container's root with few ids", ids: Range, files: map[string]string{"proc/self/uid_map": "0 1000 1\n1 100000 65536\n"},
			want: []string{"root of a user namespace"}},
		{name: "unknown reason", uid: 1000, ids: Caller, try: forbidden,
			want: []string{"new namespaces: operation not permitted"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := maps.Clone(goodHost())
			for name, content := range tt.files {
				if content == "" {
					delete(host, name)
				} else {
					host[name] = &fstest.MapFile{Data: []byte(content)}
				}
			}
			h := Host{FS: host, UID: tt.uid, GID: tt.uid, Try: func(context.Context, IDs) error { return tt.try }}
			err := h.Check(t.Context(), tt.ids)
			if len(tt.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrNotSupported) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error is %v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
		})
	}
}

func TestMappings(t *testing.T) {
	m, err := Host{FS: goodHost(), UID: 1000, GID: 1000}.mappings(Range)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.outerUID, m.outerGID, m.innerUID, m.rootUID, m.tool); got != "[{0 1000 1} {1 165536 65536}] [{0 1000 1} {1 231072 65536}] [{0 1 65536}] 1/usr/bin" {
		t.Error(got)
	}
	if got, err := (Host{FS: goodHost()}).unusedRange(); err != nil || got != 0x70000000 {
		t.Errorf("%#x %v", got, err)
	}
	for file, line := range map[string]string{
		"etc/subuid": "x:1879048000:193", "etc/subgid": "x:1879113727:1",
		"etc/passwd": "x:x:1879048192:1::/:", "etc/group": "x:x:1879100000:",
	} {
		host := goodHost()
		host[file] = &fstest.MapFile{Data: []byte(line)}
		if got, err := (Host{FS: host}).unusedRange(); err != nil || got != 0x70010000 {
			t.Errorf("%s %s: %#x %v", file, line, got, err)
		}
	}
}

func FuzzSubordinateIDs(f *testing.F) {
	for _, s := range []string{"ann:165536:65536\n", "ann:4294967295:65536", "ann:-1:65536", "ann:1:2:3", ":::", "#\n\n1000:1879048192:268435456"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		host := goodHost()
		for _, name := range []string{"etc/subuid", "etc/subgid", "etc/passwd", "proc/self/uid_map", "proc/self/status"} {
			host[name] = &fstest.MapFile{Data: b}
			for _, uid := range []int{0, 1000} {
				h := Host{FS: host, UID: uid, GID: uid}
				m, err := h.mappings(Range)
				if err != nil {
					if !errors.Is(err, ErrNotSupported) {
						t.Errorf("error is %v", err)
					}
					continue
				}
				last := m.innerUID[0]
				if m.outer {
					last = m.outerUID[1]
				}
				if last.Size != rangeSize || uint64(last.Outside)+rangeSize > math.MaxUint32 {
					t.Errorf("ids from %d", last.Outside)
				}
				h.reasons()
			}
		}
	})
}

func TestSpecsThatCannotBe(t *testing.T) {
	argv := []string{"true"}
	for want, s := range map[string]Spec{
		"neither Argv nor Call":        {},
		"both Argv and Call":           {Argv: argv, Call: "f"},
		"Argv[0] is empty":             {Argv: []string{""}},
		"IDs is 7":                     {Argv: argv, IDs: 7},
		"can have Links":               {Argv: argv, Root: "/x", Links: []Link{{"/a", "b"}}},
		`"rel" is not an absolute`:     {Argv: argv, Binds: []Bind{{"/x", "rel", true}}},
		`"/" is not an absolute path`:  {Argv: argv, Tmpfs: []string{"/"}},
		"Source is empty":              {Argv: argv, Binds: []Bind{{"", "/x", true}}},
		`device "/etc/passwd"`:         {Argv: argv, Devices: []string{"/etc/passwd"}},
		`device "/dev/../etc/passwd"`:  {Argv: argv, Devices: []string{"/dev/../etc/passwd"}},
		`"/dev" cannot be kept`:        {Argv: argv, Keep: []string{"/dev"}},
		`working directory "x" is not`: {Argv: argv, Dir: "x"},
		"has a NUL in it":              {Argv: []string{"a\x00b"}},
		"arguments of f":               {Call: "f", Args: func() {}},
	} {
		if err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "\n\n": "", "one": "one", "one\ntwo\n": "two", "progress\rdone\r\n\n": "done", "bad \xff utf": "bad ? utf",
		strings.Repeat("x", 1000): strings.Repeat("x", 300),
	} {
		if got := lastLine([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
