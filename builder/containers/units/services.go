package units

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

const (
	systemUnits = "usr/lib/systemd/system/"
	userUnits   = "usr/lib/systemd/user/"

	podmanProgram  = "/usr/bin/podman"
	dockerProgram  = "/usr/bin/docker"
	ctrProgram     = "/usr/bin/ctr"
	composeProgram = "/usr/bin/docker-compose"
)

// secretsFolder is below /run, which is in memory.
const secretsFolder = "applbuild-secrets/"

func (w *writer) services() {
	made := map[string]bool{}
	for _, owner := range w.owners() {
		for _, name := range w.networks(owner) {
			if path := folder(owner) + networkUnit(name); w.machine.Runtime != Containerd && !made[path] {
				made[path] = true
				w.add(path, w.networkService(name))
			}
		}
	}
	for _, c := range w.machine.Containers {
		u := &unit{}
		w.unitSection(u, &c)
		switch w.machine.Runtime {
		case Podman:
			w.podmanService(u, &c)
		case Docker:
			w.dockerService(u, &c)
		case Containerd:
			w.ctrService(u, &c)
		}
		c.serviceSection(u)
		u.set("Install", "WantedBy", c.target())
		w.enable(folder(c.Rootless), c.Name+".service", c.target(), u)
	}
	if w.machine.Compose != "" {
		w.enable(systemUnits, "applbuild-compose.service", "multi-user.target", w.composeService())
	}
}

// enable adds a unit, with the link that has a target start it.
func (w *writer) enable(folder, name, target string, u *unit) {
	w.add(folder+name, u)
	w.files = append(w.files, File{Path: folder + target + ".wants/" + name, Link: "../" + name})
}

func folder(owner *User) string {
	if owner == nil {
		return systemUnits
	}
	return userUnits
}

// networkUnit is the unit that makes a network, named as podman's generator
// names it.
func networkUnit(name string) string { return name + "-network.service" }

func (w *writer) networkService(name string) *unit {
	u := &unit{}
	u.set("Unit", "Description", "Network "+name+" of Containers")
	create := podmanProgram + " network exists " + name + " || exec " + podmanProgram + " network create " + name
	if w.machine.Runtime == Docker {
		create = dockerProgram + " network inspect " + name + " >/dev/null 2>&1 || exec " + dockerProgram + " network create " + name
		u.set("Unit", "Requires", "docker.service")
		u.set("Unit", "After", "docker.service")
	}
	u.set("Service", "Type", "oneshot")
	u.set("Service", "RemainAfterExit", "yes")
	u.set("Service", "ExecStart", command("/bin/sh", "-c", create))
	return u
}

// unitSection says what the container's unit waits for. A rule set that
// nftables.service loads would remove those of the containers' networks.
func (w *writer) unitSection(u *unit, c *Container) {
	set := func(key string, values ...string) { u.set("Unit", key, values...) }
	set("Description", "Container "+c.Name)
	needs := slices.Clone(w.machine.Needs)
	quadlets := w.machine.Runtime == Podman && HasQuadlets(w.machine.Version)
	switch w.machine.Runtime {
	case Docker, Containerd:
		needs = append([]string{w.machine.Runtime + ".service"}, needs...)
	case Podman:
		if c.Rootless != nil {
			needs = nil // the system's units are not those of a user
		}
	}
	if c.owned() && w.machine.Runtime != Containerd && !quadlets {
		needs = append(needs, networkUnit(c.network()))
	}
	for _, name := range c.After {
		needs = append(needs, name+".service")
	}
	set("Requires", needs...)
	set("After", needs...)
	if c.Rootless == nil {
		// The first would flush podman's rules, without the second there may be no
		// resolv.conf, which podman's name server wants.
		set("After", "nftables.service", "systemd-resolved.service")
	}
	if c.Rootless == nil && w.machine.Pull != "never" {
		set("Wants", "network-online.target")
		set("After", "network-online.target")
	}
	if c.Rootless != nil && !quadlets {
		set("ConditionUser", c.Rootless.Name)
	}
	if w.machine.Runtime == Podman && !quadlets {
		set("RequiresMountsFor", "%t/containers")
	}
	if c.Restart != "no" {
		set("StartLimitIntervalSec", "0")
	}
}

// serviceSection says when the container is started again: after a second, as
// often as it takes.
func (c *Container) serviceSection(u *unit) {
	u.set("Service", "Restart", c.Restart)
	if c.Restart != "no" {
		u.set("Service", "RestartSec", "1")
	}
	u.set("Service", "TimeoutStartSec", "180")
}

// secretsFor gives the unit the container's credentials. systemd has them in a
// folder that only root reads, but programs in containers run as users of
// their own: so copies that each may read are bound into the container one by
// one, out of a folder that no user of the machine gets into.
func (c *Container) secretsFor(u *unit) {
	if len(c.Secrets) == 0 {
		return
	}
	for _, name := range c.Secrets {
		u.set("Service", "LoadCredential", name+":"+name)
	}
	u.set("Service", "RuntimeDirectory", secretsFolder+c.Name)
	u.set("Service", "RuntimeDirectoryMode", "0700")
	for _, name := range c.Secrets {
		u.set("Service", "ExecStartPre", "/usr/bin/install -m 0444 %d/"+name+" %t/"+secretsFolder+c.Name+"/"+name)
	}
}

// inMemory are the folders that a container which cannot write to its image has
// in memory: those that no volume is mounted on, because docker refuses two
// mounts of one path.
func (c *Container) inMemory() []string {
	return slices.DeleteFunc(slices.Clone(temporary), func(path string) bool {
		return slices.ContainsFunc(c.Volumes, func(v Volume) bool { return v.Path == path })
	})
}

// allVolumes are the container's volumes with those of its secrets, as podman
// and docker read them.
func (c *Container) allVolumes() []string {
	var list []string
	for _, v := range c.Volumes {
		text := verbatim(v.Source + ":" + v.Path)
		if len(v.Options) > 0 {
			text += ":" + strings.Join(v.Options, ",")
		}
		list = append(list, text)
	}
	for _, name := range c.Secrets {
		list = append(list, "%t/"+secretsFolder+c.Name+"/"+name+":/run/secrets/"+name+":ro")
	}
	return list
}

func (c *Container) target() string {
	if c.Rootless != nil {
		return "default.target"
	}
	return "multi-user.target"
}

// podmanService is what podman's generator makes of a quadlet.
func (w *writer) podmanService(u *unit, c *Container) {
	set := func(key string, values ...string) { u.set("Service", key, values...) }
	set("Environment", "PODMAN_SYSTEMD_UNIT=%n")
	set("Type", "notify")
	set("NotifyAccess", "all")
	set("KillMode", "mixed")
	set("Delegate", "yes")
	set("SyslogIdentifier", "%N")
	c.secretsFor(u)
	words := []string{podmanProgram, "run", "--name=" + c.Name, "--cidfile=%t/%N.cid", "--replace", "--rm", "--cgroups=split", "--sdnotify=conmon", "-d", "--pull=" + w.machine.Pull}
	words = append(words, c.flags()...)
	if c.ReadOnly {
		words = append(words, "--read-only")
	}
	if len(c.Entrypoint) > 0 {
		words = append(words, quote("--entrypoint="+jsonList(c.Entrypoint)))
	}
	words = append(words, c.Image)
	for _, word := range c.Command {
		words = append(words, quote(word))
	}
	set("ExecStart", strings.Join(words, " "))
	remove := podmanProgram + " rm -v -f -i --cidfile=%t/%N.cid"
	set("ExecStop", remove)
	set("ExecStopPost", "-"+remove)
}

// dockerService waits for the container to end: its client would end with the
// unit, and a container that it is attached to writes to the journal twice.
func (w *writer) dockerService(u *unit, c *Container) {
	set := func(key string, values ...string) { u.set("Service", key, values...) }
	set("Type", "exec")
	set("SyslogIdentifier", "%N")
	c.secretsFor(u)
	remove := "-" + dockerProgram + " rm --force --volumes " + c.Name
	set("ExecStartPre", remove)
	words := []string{dockerProgram, "run", "--name=" + c.Name, "--detach", "--log-driver=journald", "--pull=" + w.machine.Pull}
	words = append(words, c.flags()...)
	if c.ReadOnly {
		words = append(words, "--read-only")
		for _, path := range c.inMemory() {
			words = append(words, "--tmpfs="+path)
		}
	}
	after := c.Command
	if len(c.Entrypoint) > 0 {
		words = append(words, quote("--entrypoint="+c.Entrypoint[0]))
		after = append(slices.Clone(c.Entrypoint[1:]), c.Command...)
	}
	words = append(words, c.Image)
	for _, word := range after {
		words = append(words, quote(word))
	}
	set("ExecStartPre", strings.Join(words, " "))
	set("ExecStart", command("/bin/sh", "-c", `exit "$(`+dockerProgram+" wait "+c.Name+`)"`))
	set("ExecStop", "-"+dockerProgram+" stop "+c.Name)
	set("ExecStopPost", remove)
}

// temporary are the folders that podman has in memory in a container that
// cannot write to its image.
var temporary = []string{"/run", "/tmp", "/var/tmp"}

// flags are the words that podman and docker share.
func (c *Container) flags() []string {
	words := []string{"--network=" + c.network()}
	for _, port := range c.Ports {
		words = append(words, "--publish="+port)
	}
	for _, v := range c.allVolumes() {
		words = append(words, quoted("--volume="+v))
	}
	for _, name := range sorted(c.Environment) {
		words = append(words, quote("--env="+name+"="+c.Environment[name]))
	}
	for _, name := range c.EnvironmentFile {
		words = append(words, quote("--env-file="+name))
	}
	for _, name := range sorted(c.Labels) {
		words = append(words, quote("--label="+name+"="+c.Labels[name]))
	}
	if c.User != "" {
		words = append(words, "--user="+c.User)
	}
	if h := c.Health; h != nil {
		words = append(words, quote("--health-cmd="+h.Command), "--health-interval="+h.Interval.String(), "--health-timeout="+h.Timeout.String(), "--health-retries="+strconv.Itoa(h.Retries))
		if h.StartPeriod != 0 {
			words = append(words, "--health-start-period="+h.StartPeriod.String())
		}
	}
	return append(words, c.limits()...)
}

// ctrService runs a container by containerd's own client, to which the unit's
// signals go and which hands them on.
func (w *writer) ctrService(u *unit, c *Container) {
	set := func(key string, values ...string) { u.set("Service", key, values...) }
	ctr := ctrProgram + " --namespace=" + cmp.Or(w.machine.Namespace, "default")
	set("Type", "exec")
	set("KillMode", "mixed")
	set("SyslogIdentifier", "%N")
	c.secretsFor(u)
	remove := []string{"-" + ctr + " tasks rm --force " + c.Name, "-" + ctr + " containers rm " + c.Name}
	set("ExecStartPre", remove...)
	words := []string{ctr, "run", "--rm"}
	if c.Network != noNetwork {
		words = append(words, "--net-host")
	}
	if c.ReadOnly {
		words = append(words, "--read-only")
		for _, path := range c.inMemory() {
			words = append(words, "--mount=type=tmpfs,src=tmpfs,dst="+path+",options=nosuid:nodev")
		}
	}
	for _, v := range c.allVolumes() {
		words = append(words, quoted("--mount="+mount(v)))
	}
	for _, name := range sorted(c.Environment) {
		words = append(words, quote("--env="+name+"="+c.Environment[name]))
	}
	for _, name := range c.EnvironmentFile {
		words = append(words, quote("--env-file="+name))
	}
	for _, name := range sorted(c.Labels) {
		words = append(words, quote("--label="+name+"="+c.Labels[name]))
	}
	if c.Memory > 0 {
		words = append(words, "--memory-limit="+strconv.FormatInt(c.Memory, 10))
	}
	if c.CPUs != "" {
		words = append(words, "--cpus="+c.CPUs)
	}
	words = append(words, c.Image, c.Name)
	for _, word := range c.Command {
		words = append(words, quote(word))
	}
	set("ExecStart", strings.Join(words, " "))
	set("ExecStopPost", remove...)
}

// mount writes a volume as ctr reads it. Labels of SELinux are podman's and
// docker's own.
func mount(volume string) string {
	parts := strings.SplitN(volume, ":", 3)
	options := []string{"rbind"}
	if len(parts) == 3 {
		for option := range strings.SplitSeq(parts[2], ",") {
			if option != "z" && option != "Z" && option != "nocopy" {
				options = append(options, option)
			}
		}
	}
	return "type=bind,src=" + parts[0] + ",dst=" + parts[1] + ",options=" + strings.Join(options, ":")
}

// composeService starts what a compose file names.
func (w *writer) composeService() *unit {
	u := &unit{}
	u.set("Unit", "Description", "Containers of the Compose File")
	needs := append([]string{"docker.service"}, w.machine.Needs...)
	u.set("Unit", "Requires", needs...)
	u.set("Unit", "After", needs...)
	u.set("Unit", "After", "nftables.service")
	compose, up := composeProgram, " up --detach --no-build --remove-orphans"
	if w.machine.Plugin {
		compose = dockerProgram + " compose"
		up += " --pull=" + w.machine.Pull
	}
	compose += " --project-name=appliance " + quote("--file="+w.machine.Compose)
	u.set("Service", "Type", "oneshot")
	u.set("Service", "RemainAfterExit", "yes")
	u.set("Service", "ExecStart", compose+up)
	u.set("Service", "ExecStop", compose+" stop")
	u.set("Service", "TimeoutStartSec", "180")
	u.set("Install", "WantedBy", "multi-user.target")
	return u
}
