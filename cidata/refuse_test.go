package cidata

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write puts files into a folder of the test's own and goes there.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, data := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// An input is what Load is given.
type input struct {
	files  map[string]string
	set    Settings
	target string
}

func (in input) load(o LoadOptions) (*Seed, error) {
	name := "seed.yml"
	if _, ok := in.files[name]; !ok {
		name = ""
	}
	o.Settings, o.For = in.set, in.target
	return Load(name, o)
}

func seedFile(text string) input { return input{files: map[string]string{"seed.yml": text}} }

func userData(text string) input {
	return input{files: map[string]string{"u": text}, set: Settings{UserData: []string{"u"}}}
}

// aliasBomb stands for 10^6 values.
const aliasBomb = `a: &a [x,x,x,x,x,x,x,x,x,x]
b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]
c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]
d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]
e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]
f: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]
`

const fakeKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"

// What is wrong with a seed is said in one line with its place; what is only odd is a warning.
func TestBadInputIsRefusedWithItsPlace(t *testing.T) {
	for _, c := range refused {
		write(t, c.input.files)
		seed, err := c.input.load(LoadOptions{})
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
			var first *Error
			if !errors.As(err, &first) {
				t.Errorf("%v: the error is a %T", c.input, err)
			}
		}
		if seed != nil {
			for _, w := range seed.Warnings() {
				got = append(got, "warning: "+w.Error())
			}
		}
		if !slices.EqualFunc(got, c.want, says) {
			t.Errorf("%v\n got %q\nwant %q", c.input, got, c.want)
		}
	}
}

// says reports whether a line is as wanted; what is wanted may end early, with an ellipsis, in the words of cloud-init's
// schemas.
func says(got, want string) bool {
	beginning, early := strings.CutSuffix(want, "…")
	return got == want || early && strings.HasPrefix(got, beginning)
}

var refused = []struct {
	input input
	want  []string
}{
	{seedFile("hostnam: a\n"), []string{"seed.yml:1:1: unknown key \"hostnam\": did you mean hostname?"}},
	{seedFile("hostname: a\nhostname: b\n"), []string{
		"seed.yml:2:1: key \"hostname\" is written twice, first in line 1: remove one of the two",
	}},
	{seedFile("hostname: [a]\n"), []string{"seed.yml:1:11: hostname: is a list: write a single value"}},
	{seedFile("hostname: a_b\n"), []string{
		"seed.yml:1:11: hostname: \"a_b\" is not valid: use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)",
	}},
	{seedFile("hostname:\n"), []string{"seed.yml:1:10: hostname: has no value: give it one, or remove the key"}},
	{seedFile("hostname: true\n"), []string{
		"seed.yml:1:11: hostname: \"true\" is not text: put it into quotes",
	}},
	{seedFile("- a\n"), []string{"seed.yml:1:1: is a list: write a mapping, KEY: VALUE"}},
	{seedFile("a: b: c\n"), []string{
		"seed.yml:1:1: not YAML: mapping values are not allowed in this context: look at the indentation, colons and quotes in and above this line",
	}},
	{seedFile("hostname: &a b\nusers: *a\n"), []string{
		"seed.yml:2:8: users: is a single value: write a list of mappings",
	}},
	{seedFile("zzz: 1\n"), []string{
		"seed.yml:1:1: unknown key \"zzz\": use one of instance_id, hostname, grow_root, ssh_keys, ssh_key_files, users, files, units, network, cloud_config, user_data, meta_data, network_config, vendor_data, extra_files; what cloud-init itself knows goes beneath cloud_config",
	}},
	{seedFile("#cloud-config\nhostname: a\n"), []string{
		"seed.yml:1:1: is user-data itself: give it with --user-data seed.yml, or put it beneath cloud_config",
	}},
	{seedFile("users:\n  - nme: a\n"), []string{
		"seed.yml:2:5: unknown key \"nme\" in users[0]: did you mean name?",
		"seed.yml:2:5: users[0]: name is missing: add name"}},
	{seedFile("users:\n  - name: A B\n"), []string{
		"seed.yml:2:11: users[0].name: \"A B\" is not valid: use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter",
	}},
	{seedFile("users: {name: a}\n"), []string{"seed.yml:1:8: users: is a mapping: write a list of mappings"}},
	{seedFile("users:\n  - name: a\n    ssh_keys: [ssh-rsa AAAA]\n"), []string{
		"seed.yml:3:16: is an SSH public key that is cut off or damaged: use the line of the .pub file, such as ssh-ed25519 AAAA… NAME",
	}},
	{seedFile("users:\n  - name: a\n    password_hash: secret\n"), []string{
		"seed.yml:3:20: users[0].password_hash: is no hash of crypt(5): make one with `openssl passwd -6` and put it into single quotes",
	}},
	{seedFile("users:\n  - name: a\n  - name: a\n"), []string{
		"seed.yml:3:11: users: user a is there twice: put the two together",
	}},
	{seedFile("users:\n - name: a\n   ssh_key_files: nothere.pub\n"), []string{
		"seed.yml:3:19: cannot be read: open nothere.pub: no such file or directory: name a file that is there",
	}},
	{seedFile("users:\n - name: a\n   shell: bash\n"), []string{
		"seed.yml:3:11: users[0].shell: \"bash\" is not valid: write an absolute path such as /bin/bash",
	}},
	{seedFile("files:\n  - path: etc/x\n    content: a\n"), []string{
		"seed.yml:2:11: files[0].path: \"etc/x\" is not valid: write an absolute path without . and .. in it",
	}},
	{seedFile("files:\n  - path: /etc/x\n"), []string{
		"seed.yml:2:5: files[0]: has no contents: add content, or source with the name of a file",
	}},
	{seedFile("files:\n  - path: /etc/x\n    content: a\n    source: b\n"), []string{
		"seed.yml:4:13: files[0]: has both content and source: remove one of the two",
	}},
	{seedFile("files:\n  - path: /etc/x\n    content: a\n    mode: 999\n"), []string{
		"seed.yml:4:11: files[0].mode: \"999\" is not valid: write three or four octal digits such as 0644",
	}},
	{seedFile("files:\n  - path: /etc/x\n    content: '%%'\n    encoding: base64\n"), []string{
		"seed.yml:3:14: content is not base64: illegal base64 data at input byte 0: make it with `base64 FILE`, or remove encoding",
	}},
	{seedFile("files:\n  - path: /etc/x\n    source: none\n"), []string{
		"seed.yml:3:13: cannot be read: open none: no such file or directory: name a file that is there",
	}},
	{seedFile("files:\n  - path: /etc/k\n    content: |\n      -----BEGIN RSA PRIVATE KEY-----\n      a\n"), []string{
		"seed.yml:3:14: holds a private key (RSA PRIVATE KEY): keep it out of the seed, or use --allow-secrets",
	}},
	{seedFile("files:\n  - path: /etc/k\n    encoding: base64\n    content: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQo=\n"), []string{
		"seed.yml:4:14: holds a private key (RSA PRIVATE KEY): keep it out of the seed, or use --allow-secrets",
	}},
	{seedFile("units:\n  - name: hello\n    content: x\n"), []string{
		"seed.yml:2:11: units[0].name: \"hello\" is not valid: write the unit's full name, such as hello.service",
	}},
	{seedFile("units:\n  - name: hello.service\n    content: x\n"), []string{
		"seed.yml:3:14: unit hello.service has no section: write systemd's syntax, beginning with [Unit] or [Service]",
	}},
	{seedFile("units:\n  - name: hello.service\n"), []string{
		"seed.yml:2:5: units[0]: says nothing about the unit: add content or source, or enable, or start",
	}},
	{seedFile("units:\n  - name: a@.service\n    enable: true\n"), []string{
		"seed.yml:2:11: units[0].name: a template cannot be enabled or started by itself: name an instance of it in an item of its own",
	}},
	{seedFile("units:\n  - name: a.service\n    content: '[Service]'\n    enable: true\n"), []string{
		"seed.yml:4:13: unit a.service has no section [Install], so it cannot be enabled: add [Install] with WantedBy=multi-user.target, or remove enable",
	}},
	{seedFile("files:\n  - path: /a\n    content: a\n  - path: /a\n    content: b\n"), []string{
		"seed.yml:4:11: files: /a is there twice: remove one of the two, or add append: true to the second",
	}},
	{seedFile("ssh_key_files: k\nusers: [a]\n"), []string{
		"seed.yml:1:16: the keys are for the image's default user, whom users leaves out: add - default to users, or give the keys to one of them",
	}},
	{userData("\ufeff#cloud-config\nhostname: a\n"), []string{
		"u:1:1: begins with a byte order mark, so that cloud-init does not know it: save it as UTF-8 without one",
	}},
	{userData("#!/bin/sh\n# gr\xfc\xdf\n"), []string{
		"u:1:1: is no text in UTF-8: save it as UTF-8, begin with #cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive or ## template: jinja",
	}},
	{seedFile("network:\n  version: 2\n  ethernet:\n    e: {dhcp4: true}\n"), []string{
		"seed.yml:3:3: ethernet: unknown key, did you mean ethernets?",
	}},
	{seedFile("network:\n  ethernets:\n    e: {dhcp4: maybe}\n"), []string{
		"seed.yml:3:16: ethernets.e.dhcp4: \"maybe\" is not one of…",
	}},
	{seedFile("network: dhcp\n"), []string{
		"seed.yml:1:10: network: is a single value: write a mapping, KEY: VALUE",
	}},
	{seedFile("network: {version: 2}\nnetwork_config: x\n"), []string{
		"seed.yml:2:17: network_config: network is given too: remove one of the two",
	}},
	{seedFile("cloud_config:\n  timezone: 5\n"), []string{"seed.yml:2:13: timezone: 5 is not of type…"}},
	{seedFile("cloud_config:\n  packages: foo\n  pakages: [a]\n"), []string{
		"seed.yml:2:13: packages: \"foo\" is not of type…",
		"seed.yml:3:3: pakages: unknown key, did you mean packages?"}},
	{seedFile("cloud_config:\n  hostnme: x\n"), []string{
		"seed.yml:2:3: hostnme: unknown key, did you mean hostname?",
	}},
	{seedFile("cloud_config:\n  password: secret\n"), []string{
		"seed.yml:2:13: password is a plain password: keep it out of the seed, or use --allow-secrets",
	}},
	{seedFile("cloud_config:\n  chpasswd:\n    users:\n      - {name: a, password: b, type: text}\n"), []string{
		"seed.yml:4:29: password is a plain password: keep it out of the seed, or use --allow-secrets",
	}},
	{seedFile("cloud_config:\n  chpasswd:\n    list: |\n      a:b\n"), []string{
		"seed.yml:3:11: chpasswd has a plain password of a: keep it out of the seed, or use --allow-secrets",
		"warning: seed.yml:3:5: chpasswd.list: deprecated since cloud-init 22.2. Use users instead."}},
	{seedFile("cloud_config:\n  ssh_keys:\n    rsa_private: abc\n"), []string{
		"seed.yml:3:18: a private key (ssh_keys.rsa_private): keep it out of the seed, or use --allow-secrets",
	}},
	{seedFile("cloud_config:\n  users:\n    - name: a\n      plain_text_passwd: b\n"), []string{
		"seed.yml:4:26: plain_text_passwd is a plain password: keep it out of the seed, or use --allow-secrets",
	}},
	{seedFile("users: [{name: a}]\ncloud_config:\n  users:\n    - name: a\n"), []string{
		"seed.yml:4:13: cloud_config.users: user a is among the seed's users too: put the two together",
	}},
	{seedFile("grow_root: true\ncloud_config:\n  resize_rootfs: false\n"), []string{
		"seed.yml:3:3: cloud_config.resize_rootfs is set by another key of the seed too (seed.yml:1:12): remove one of the two",
	}},
	{seedFile("cloud_config:\n  apt_update: true\n"), []string{
		"warning: seed.yml:2:3: apt_update: deprecated since cloud-init 22.2. Use package_update instead.",
	}},
	{seedFile("hostname: a\nmeta_data: m\n"), []string{
		"seed.yml:2:12: cannot be read: open m: no such file or directory: name a file that is there",
	}},
	{seedFile("extra_files:\n  - path: ../x\n    content: a\n"), []string{
		"seed.yml:2:11: extra file \"../x\" is not a path inside of the seed: write a relative path such as scripts/setup.sh, of up to seven parts and 200 characters",
	}},
	{seedFile("extra_files:\n  - path: a/x\n    content: a\n  - path: A/y\n    content: a\n"), []string{
		"seed.yml:1:1: extra files lie in \"A\" and \"a\": write the folder in one way; upper and lower case count as the same",
	}},
	{seedFile("extra_files:\n  - path: a/x\n    content: a\n  - path: a\n    content: a\n"), []string{
		"seed.yml:1:1: extra file \"a/x\" lies below a file: give one of them another name",
	}},
	{seedFile("extra_files:\n  - path: user-data\n    content: a\n"), []string{
		"seed.yml:2:11: extra file \"user-data\" is there twice: give it another name; upper and lower case count as the same",
	}},
	{seedFile("extra_files:\n  - path: k\n    content: AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ\n"), []string{
		"seed.yml:3:14: holds a private key (age): keep it out of the seed, or use --allow-secrets",
	}},
	{seedFile("user_data: [a, b]\n"), []string{
		"seed.yml:1:13: cannot be read: open a: no such file or directory: name a file that is there",
	}},
	{userData("hello\n"), []string{
		"u:1:1: first line \"hello\" is none that cloud-init knows: begin with #cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive or ## template: jinja",
	}},
	{userData("#cloudconfig\na: b\n"), []string{
		"u:1:1: first line \"#cloudconfig\" is none that cloud-init knows: write #cloud-config, and nothing else in that line",
	}},
	{userData("#cloud-config\nhostname: a\nhostname: b\n"), []string{
		"warning: u:3:1: the key \"hostname\" is written a second time…",
	}},
	{userData("#cloud-config\n- a\n"), []string{
		"u:2:1: the cloud-config is a list, write a mapping (key: value)",
	}},
	{userData("#cloud-config\nusers: 5\n"), []string{
		"u:2:8: users: 5 is not of type…",
	}},
	{userData(""), []string{"--user-data: \"u\" is empty: leave it out"}},
	{userData("\x00\x01"), []string{
		"u:1:1: is binary: begin with #cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive or ## template: jinja",
	}},
	{userData("#cloud-config\nruncmd: [\n"), []string{
		"u:3:1: this is no YAML…",
	}},
	{userData("#!/bin/sh\r\necho\r\n"), []string{
		"u:1:1: the script's lines end in CR LF, so its interpreter is not found: save it with LF alone",
	}},
	{userData("#include\nnot a url\n"), []string{
		"u:2:1: \"not a url\" is no URL to include: write one URL in a line, such as https://example.com/user-data",
	}},
	{userData("#!/bin/sh\ncat <<E\n" + fakeKey + "E\n"), []string{
		"u:3:1: holds a private key (OPENSSH PRIVATE KEY): keep it out of the seed, or use --allow-secrets",
	}},
	{userData("## template: jinja\nhello {{ x }}\n"), []string{
		"u:2:1: first line \"hello {{ x }}\" is none that cloud-init knows: begin with #cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive or ## template: jinja",
	}},
	{userData("## template: jinja\n#cloud-config\nhostnam: x\n"), []string{
		"u:3:1: hostnam: unknown key, did you mean hostname?",
	}},
	{userData("#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    usrs: 1\n    hostname: 2\n- hello\n"), []string{
		"u, item 1:1:1: usrs: unknown key, did you mean users?",
		"u, item 1:2:11: hostname: 2 is not of type…",
		"warning: u, item 2:1:1: passed over, since it is no mapping of a cloud-config…"}},
	{userData("#cloud-config-archive\na: b\n"), []string{
		"u:2:1: the archive is a mapping: write a list of texts, or of mappings with type and content",
	}},
	{userData("Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: text/cloud-config\n\n#cloud-config\nusers: 5\n--X\nContent-Type: text/plain\n\nhello\n--X--\n"), []string{
		"u:8:8: users: 5 is not of type…",
		"u:12:1: first line \"hello\" is none that cloud-init knows: begin with #cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive or ## template: jinja"}},
	{userData("Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\nI2Nsb3VkLWNvbmZpZwp1c2VyczogNQo=\n--X\nContent-Type: foo/bar\n\nhello\n--X--\n"), []string{
		"u, part-001:2:8: users: 5 is not of type…",
		"warning: u:12:1: a part of type \"foo/bar\" is passed over, unless a part-handler takes it: use a type that cloud-init knows"}},
	{input{files: map[string]string{"k": fakeKey}, set: Settings{SSHKeyFiles: []string{"k"}}}, []string{
		"k:1:1: is a private key (OPENSSH PRIVATE KEY): name the public key beside it, k.pub",
	}},
	{input{files: map[string]string{"k": "hello\n"}, set: Settings{SSHKeyFiles: []string{"k"}}}, []string{
		"k:1:1: is no SSH public key: use the line of the .pub file, such as ssh-ed25519 AAAA… NAME",
	}},
	{input{files: map[string]string{"k": "\n"}, set: Settings{SSHKeyFiles: []string{"k"}}}, []string{
		"k:1:1: holds no SSH public key: name a .pub file",
	}},
	{input{set: Settings{SSHKeyFiles: []string{"nokey"}}}, []string{
		"--ssh-key: cannot be read: open nokey: no such file or directory: name a file that is there",
	}},
	{input{set: Settings{Hostname: "a b"}}, []string{
		"--hostname: \"a b\" is not valid: use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)",
	}},
	{input{set: Settings{User: "A"}}, []string{
		"--user: \"A\" is not valid: use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter",
	}},
	{input{set: Settings{User: "a", PasswordHash: "b"}}, []string{
		"--password-hash: is no hash of crypt(5): make one with `openssl passwd -6` and put it into single quotes",
	}},
	{input{set: Settings{PasswordHash: "b"}}, []string{"--password-hash: belongs to no user: add --user NAME"}},
	{input{files: map[string]string{"m": "a: [\n"}, set: Settings{MetaData: "m"}}, []string{
		"m:1:1: not YAML: did not find expected node content: look at the indentation, colons and quotes in and above this line",
	}},
	{input{files: map[string]string{"m": "instance-id: a\n"}, set: Settings{MetaData: "m", InstanceID: "b"}}, []string{
		"--instance-id: meta-data sets instance-id too (m:1:14): remove one of the two",
	}},
	{input{files: map[string]string{"m": "a\n"}, set: Settings{MetaData: "m"}}, []string{
		"m:1:1: meta-data is a single value: write a mapping, KEY: VALUE",
	}},
	{input{files: map[string]string{"n": "network:\n  version: 2\n  foo: 1\n"}, set: Settings{Network: "n"}}, []string{
		"n:3:3: foo: unknown key…",
	}},
	{input{files: map[string]string{"n": "version: 1\nconfig:\n- type: foo\n"}, set: Settings{NetworkConfig: "n"}}, []string{
		"n:3:9: config.0.type: \"foo\" is not one of…",
	}},
	{input{files: map[string]string{"n": ""}, set: Settings{Network: "n"}}, []string{
		"n:1:1: is empty: write netplan's YAML, version 2",
	}},
	{input{files: map[string]string{"u": "#!/bin/sh\n" + strings.Repeat("abcdefgh", 4000)}, set: Settings{UserData: []string{"u"}, Hostname: "a"}, target: "ec2"}, []string{
		"warning: the command line: user-data has 43874 bytes, EC2 takes 16384: give it gzip'ed: 633 bytes",
	}},
	{input{files: map[string]string{"a": "#cloud-config\nruncmd: [a]\n", "b": "#cloud-config\nruncmd: [b]\n"}, set: Settings{UserData: []string{"a", "b"}}}, []string{
		"warning: b:2:1: runcmd replaces that of an earlier part (a:2:1): put the two into one file, or add merge_how to this one",
	}},
	{input{files: map[string]string{"a": "#cloud-config\nruncmd: [a]\n", "b": "#cloud-config\nruncmds: [b]\n"}, set: Settings{UserData: []string{"a", "b"}}}, []string{
		"b:2:1: runcmds: unknown key, did you mean runcmd?",
	}},
	{seedFile(aliasBomb), []string{
		"seed.yml:1:14: the document is too deep or too large: stay below 64 levels and 500000 values; an alias counts as all that it stands for",
	}},
	{seedFile("users: &a [*a]\n"), []string{
		"seed.yml:1:12: alias *a stands for something it is part of: write the value out",
	}},
	{seedFile("users:\n  <<: {a: b}\n"), []string{
		"seed.yml:2:3: the merge key << is not read: write the values out",
	}},
	{seedFile("? [a]\n: b\n"), []string{
		"seed.yml:1:3: a key is not a word: write KEY: VALUE",
	}},
	{seedFile("hostname: !x a\n"), []string{
		"seed.yml:1:11: tag \"!x\" has no meaning here: remove it",
	}},
	{seedFile("a: b\n---\nc: d\n"), []string{
		"seed.yml:2:1: a second document begins: write one document in a file, without --- in it",
	}},
	{seedFile("a: b\n---\nc: [\n"), []string{
		"seed.yml:3:1: not YAML: did not find expected node content…",
	}},
	{seedFile("users: [null]\n"), []string{
		"seed.yml:1:9: users[0]: has no value: write a mapping",
	}},
	{seedFile("users:\n  - name: [a]\n"), []string{
		"seed.yml:2:11: users[0].name: is a list: write a single value",
	}},
	{seedFile("grow_root: maybe\n"), []string{
		"seed.yml:1:12: grow_root: is neither true nor false: use true or false, without quotes",
	}},
	{seedFile("hostname: \"a\\0b\"\n"), []string{
		"seed.yml:1:11: hostname: holds a NUL character: remove it",
	}},
	{seedFile("hostname: ''\n"), []string{
		"seed.yml:1:11: hostname: is empty: give it a value, or remove the key",
	}},
	{seedFile("hostname: !!binary aGVsbG8=\n"), []string{
		"seed.yml:1:11: hostname: is not text: write text, or name a file with source",
	}},
	{seedFile("ssh_keys: {a: b}\n"), []string{
		"seed.yml:1:11: ssh_keys: is a mapping: write a list",
	}},
	{seedFile("users:\n  - name: a\n    uid: x\n    groups: A\n    home: x\n    primary_group: ' '\n"), []string{
		"seed.yml:3:10: users[0].uid: \"x\" is not valid: write a number",
		"seed.yml:4:13: users[0].groups: \"A\" is not valid: use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter",
		"seed.yml:5:11: users[0].home: \"x\" is not valid: write an absolute path such as /home/a",
		"seed.yml:6:20: users[0].primary_group: \" \" is not valid: use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter",
	}},
	{seedFile("users:\n  - {name: default, shell: /bin/sh}\n"), []string{
		"seed.yml:2:5: users[0]: the default user takes no further keys: give a name of its own, or write - default and put ssh_keys at the top",
	}},
	{seedFile("files:\n  - path: /a/../b\n    content: a\n    owner: 'a b'\n    encoding: gzip\n"), []string{
		"seed.yml:2:11: files[0].path: \"/a/../b\" is not valid: write an absolute path without . and .. in it",
		"seed.yml:4:12: files[0].owner: \"a b\" is not valid: write USER or USER:GROUP",
		"seed.yml:5:15: files[0].encoding: \"gzip\" is not known: use text or base64",
	}},
	{seedFile("files:\n  - path: /a\n    source: b\n    encoding: base64\n"), []string{
		"seed.yml:4:15: files[0].encoding: goes with content only: remove it: a source file is encoded where it needs to be",
	}},
	{seedFile("units:\n  - name: a.service\n    dropin: x\n"), []string{
		"seed.yml:2:5: units[0]: has no contents: add content, or source with the name of a file",
		"seed.yml:3:13: units[0].dropin: \"x\" is not valid: write the drop-in's name, such as 10-local.conf",
	}},
	{seedFile("user_data: s.yml\nextra_files:\n  - {path: a, source: nothere}\n"), []string{
		"seed.yml:1:12: cannot be read: open s.yml: no such file or directory: name a file that is there",
		"seed.yml:3:23: cannot be read: open nothere: no such file or directory: name a file that is there",
	}},
	{seedFile("network:\n  version: 2\n  wifis: {w: {access-points: {a: {password: abcdefgh}}}}\n  tunnels: {t: {keys: {private: abc}}, u: {key: def}}\n"), []string{
		"seed.yml:3:45: password is a plain password: keep it out of the seed, or use --allow-secrets",
		"seed.yml:4:33: holds a tunnel's private key: keep it out of the seed, or use --allow-secrets",
		"seed.yml:4:49: holds a tunnel's private key: keep it out of the seed, or use --allow-secrets",
		"warning: seed.yml:3:3: wifis: netplan knows this key, cloud-init's schema does not: use it only where netplan configures the network",
		"warning: seed.yml:4:3: tunnels: netplan knows this key, cloud-init's schema does not: use it only where netplan configures the network",
	}},
	{seedFile("network:\n  version: 2\n  ethernets: {e: {foo: 1}}\n"), []string{
		"seed.yml:3:19: ethernets.e.foo: unknown key",
	}},
	{userData("#cloud-config\na: &x {hostname: b}\n<<: *x\n"), []string{
		"u:2:1: a: unknown key",
	}},
	{userData("#cloud-config\nusers:\n- &u {name: a, plain_text_passwd: b}\n- <<: *u\n  name: c\n"), []string{
		"u:3:35: plain_text_passwd is a plain password: keep it out of the seed, or use --allow-secrets",
	}},
	{userData("#cloud-config\npassword: a\npassword: $6$saltsalt$abcdefghijklmnop\n"), []string{
		"u:2:11: password is a plain password: keep it out of the seed, or use --allow-secrets",
		"warning: u:3:1: the key \"password\" is written a second time…",
	}},
	{userData("Content-Type: multipart/mixed\nMIME-Version: 1.0\n\nx\n"), []string{
		"u:4:1: the message names no boundary: make the message again",
	}},
	{userData("Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\nx\n"), []string{
		"u:4:1: the message is cut off or damaged: multipart: NextPart: EOF: make it again",
	}},
	{userData("Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\n\n#!/bin/sh\n"), []string{
		"u:4:1: the message is cut off or damaged: unexpected EOF: make it again",
	}},
	{userData("Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Transfer-Encoding: uuencode\n\n#!/bin/sh\n--X--\n"), []string{
		"u:7:1: part-001: unknown transfer encoding \"uuencode\": make the message again",
	}},
	{userData("Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Transfer-Encoding: base64\n\n%\n--X--\n"), []string{
		"u:7:1: part-001: base64: illegal base64 data at input byte 0: make the message again",
	}},
	{userData("not a header\nMIME-Version: 1.0\n\n"), []string{
		"u:1:1: not a MIME message: malformed header line: not a header: begin with the headers Content-Type and MIME-Version, then an empty line",
	}},
	{userData("\x1f\x8b\x08garbage"), []string{
		"u: gzip is damaged: unexpected EOF: make it again",
	}},
	{userData("#cloud-config-archive\n- content: !!binary '%'\n- {type: a/b}\n"), []string{
		"u:2:12: base64: illegal base64 data at input byte 0: write base64, or text without !!binary",
		"u:3:3: item 2 of the archive has no content: add content: with the text of the part",
	}},
	{userData("#cloud-config-archive\n- [\n"), []string{
		"u:2:1: not YAML: did not find expected node content…",
	}},
	{input{files: map[string]string{"m": "instance-id:\nlocal-hostname: a b\n"}, set: Settings{MetaData: "m"}}, []string{
		"m:1:13: instance-id is no text: write a name",
		"m:2:17: local-hostname is no host name: use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)",
	}},
	{input{files: map[string]string{"m": "instance-id: [a]\n"}, set: Settings{MetaData: "m"}}, []string{
		"m:1:14: instance-id is no text: write a name",
	}},
	{input{files: map[string]string{"n": "version: 2\n", "s.yml": "x"}, set: Settings{Network: "n", NetworkConfig: "n"}}, []string{
		"--network: --network-config is given too: leave one of the two out",
	}},
	{input{files: map[string]string{"n": "version: 2\nethernets: {}\n"}, set: Settings{NetworkConfig: "n", Hostname: "a"}, target: "ec2"}, []string{
		"warning: the command line: EC2 has no network-config of a seed: leave it out: the instance's metadata configure the network",
	}},
}
