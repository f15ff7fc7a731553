package units

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Where podman's generators look for what the image brings. For users there is
// no place below /usr before podman 5.6.
const (
	systemQuadlets = "usr/share/containers/systemd/"
	userQuadlets   = "etc/containers/systemd/users/"
)

func (w *writer) quadlets() {
	folder := func(u *User) string {
		if u == nil {
			return systemQuadlets
		}
		return userQuadlets + strconv.Itoa(u.UID) + "/"
	}
	for _, owner := range w.owners() {
		for _, name := range w.networks(owner) {
			u := &unit{}
			u.set("Unit", "Description", "Network "+name+" of Containers")
			w.patience(u)
			u.set("Network", "NetworkName", name)
			w.add(folder(owner)+name+".network", u)
		}
	}
	for _, c := range w.machine.Containers {
		u := &unit{}
		w.unitSection(u, &c)
		w.patience(u)
		w.containerSection(u, &c)
		c.serviceSection(u)
		if c.Restart != "no" {
			// Containers that need this one wait while it is started again
			// (systemd 254 and later).
			u.set("Service", "RestartMode", "direct")
		}
		c.secretsFor(u)
		u.set("Install", "WantedBy", c.target())
		w.add(folder(c.Rootless)+c.Name+".container", u)
	}
}

// patience keeps a unit from waiting for the network, which podman's generator
// has it do for the sake of images that are fetched.
func (w *writer) patience(u *unit) {
	if waits(w.machine.Version) && w.machine.Pull == "never" {
		u.set("Quadlet", "DefaultDependencies", "no")
	}
}

func (w *writer) containerSection(u *unit, c *Container) {
	set := func(key string, values ...string) { u.set("Container", key, values...) }
	set("ContainerName", c.Name)
	set("Image", c.Image)
	set("Pull", w.machine.Pull)
	if c.owned() {
		set("Network", c.network()+".network")
	} else {
		set("Network", c.network())
	}
	set("PublishPort", c.Ports...)
	for _, v := range c.allVolumes() {
		set("Volume", v)
	}
	set("Environment", pairs(c.Environment)...)
	set("EnvironmentFile", c.EnvironmentFile...)
	set("Label", pairs(c.Labels)...)
	if c.User != "" {
		set("User", c.User)
	}
	if c.ReadOnly {
		set("ReadOnly", "true")
	}
	if h := c.Health; h != nil {
		h.quadlet(set)
	}
	if len(c.Entrypoint) > 0 {
		set("PodmanArgs", command("--entrypoint="+jsonList(c.Entrypoint)))
	}
	for _, limit := range c.limits() {
		set("PodmanArgs", limit)
	}
	if len(c.Command) > 0 {
		c.exec(u)
	}
}

// lost are the words that podman's generator does not put in quotes where
// systemd needs them: as variables they get through.
var lost = map[string]string{"": "APPLBUILD_EMPTY", ";": "APPLBUILD_SEMICOLON"}

func (c *Container) exec(u *unit) {
	used := map[string]string{}
	words := make([]string, len(c.Command))
	for i, word := range c.Command {
		words[i] = quote(word)
		if name := lost[word]; name != "" {
			words[i] = "${" + name + "}"
			used[name] = word
		}
	}
	u.set("Container", "Exec", strings.Join(words, " "))
	for _, name := range sorted(used) {
		u.set("Service", "Environment", name+"="+used[name])
	}
}

func (h *Health) quadlet(set func(key string, values ...string)) {
	// The generator takes this value as it is, but for quotes and blanks at its ends.
	if strings.Trim(h.Command, "\" ") == h.Command && !strings.HasSuffix(h.Command, `\`) {
		set("HealthCmd", verbatim(h.Command))
	} else {
		set("PodmanArgs", command("--health-cmd="+h.Command))
	}
	set("HealthInterval", h.Interval.String())
	set("HealthTimeout", h.Timeout.String())
	set("HealthRetries", strconv.Itoa(h.Retries))
	if h.StartPeriod != 0 {
		set("HealthStartPeriod", h.StartPeriod.String())
	}
}

// pairs are the words NAME=VALUE of a map, in the order of their names.
func pairs(m map[string]string) []string {
	var words []string
	for _, name := range sorted(m) {
		words = append(words, quote(name+"="+m[name]))
	}
	return words
}

// jsonList is a list of texts as podman's --entrypoint reads it.
func jsonList(list []string) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(list); err != nil { // a list of texts has no value that cannot be encoded
		return fmt.Sprintf("%q", list)
	}
	return strings.TrimSpace(out.String())
}

// limits are the words of what the container may use.
func (c *Container) limits() []string {
	var words []string
	if c.Memory > 0 {
		words = append(words, "--memory="+strconv.FormatInt(c.Memory, 10))
	}
	if c.CPUs != "" {
		words = append(words, "--cpus="+c.CPUs)
	}
	return words
}
