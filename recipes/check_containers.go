package recipes

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// containers checks the images, what runs from them, and what only one runtime has.
func (c *checker) containers() {
	list := c.recipe.Containers
	if list == nil {
		return
	}
	if c.recipe.Output.imageOnly() {
		c.add("containers", "a container image has no containers in it", "remove it, or add raw to output.formats")
	}
	c.containerRuntime(list)
	c.verify(list.Verify, "containers.verify")
	first := map[Reference]int{}
	for i := range list.Images {
		image, at := &list.Images[i], fmt.Sprintf("containers.images[%d]", i)
		if !c.containerImage(image, at) {
			continue
		}
		if j, twice := first[image.Reference()]; twice {
			c.add(at, image.Reference().String()+" is there already, at "+c.recipe.Position(fmt.Sprintf("containers.images[%d]", j)).String(), "remove one of the two")
			continue
		}
		first[image.Reference()] = i
	}
	if list.Verify != nil && list.Verify.Off != "" {
		list.Verify = nil
	}
	for i := range list.Images {
		switch image := &list.Images[i]; {
		case image.Verify == nil && image.Layout == "":
			image.Verify = list.Verify
		case image.Verify != nil && image.Verify.Off != "":
			image.Verify = nil
		}
	}
	for i := range list.Run {
		c.container(&list.Run[i], fmt.Sprintf("containers.run[%d]", i))
	}
	c.containerNames(list.Run)
	c.containerPorts(list.Run)
	c.containerOrder(list.Run)
}

// containerRuntime refuses keys of another runtime than the recipe's, and resolves the paths of files.
func (c *checker) containerRuntime(list *Containers) {
	refuse := func(key, only string) {
		c.add("containers."+key, "is for "+only+", and the runtime is "+list.Runtime, "remove it, or write runtime: "+only)
	}
	if list.Namespace != "" && list.Runtime != Containerd {
		refuse("namespace", Containerd)
	}
	if len(list.Namespace) > 76 {
		c.add("containers.namespace", "is too long", "use at most 76 characters")
	}
	if len(list.Quadlets) > 0 && list.Runtime != Podman {
		refuse("quadlets", Podman)
	}
	if list.Compose != "" {
		if list.Runtime != Docker {
			refuse("compose", Docker)
		}
		list.ComposeFile = relativeTo(c.recipe.positions["containers.compose"].folder(c.recipe.file), list.Compose)
	}
	list.QuadletFiles = nil
	for i, name := range list.Quadlets {
		list.QuadletFiles = append(list.QuadletFiles, relativeTo(c.recipe.positions[fmt.Sprintf("containers.quadlets[%d]", i)].folder(c.recipe.file), name))
	}
	c.repeated("containers.quadlets", list.QuadletFiles, func(s string) string { return s })
	if list.Pull != PullNever && list.Runtime == Containerd {
		c.add("containers.pull", "containerd fetches nothing by itself", "remove it, and name all images in images")
	}
	c.repeated("containers.plain_http", list.PlainHTTP, strings.ToLower)
	if len(list.Rootless) > 0 && list.Runtime != Podman {
		refuse("rootless", Podman)
	}
	for i, name := range list.Rootless {
		c.rootlessUser(name, fmt.Sprintf("containers.rootless[%d]", i))
	}
	c.repeated("containers.rootless", list.Rootless, func(s string) string { return s })
}

// containerImage checks one image, and reports whether it has a name.
func (c *checker) containerImage(image *ContainerImage, at string) bool {
	c.verify(image.Verify, at+".verify")
	switch {
	case image.Layout == "" && image.Ref == (Reference{}):
		c.add(at, "nothing says where the image comes from", "add ref or layout")
		return false
	case image.Layout != "" && image.Ref != (Reference{}):
		c.add(at+".layout", "ref and layout exclude each other", "keep one of them; name says what the image of a layout is called")
		return false
	case image.Layout == "" && image.Name != (Reference{}):
		c.add(at+".name", "an image of a registry is called by its reference", "remove it")
		return false
	case image.Layout == "":
		return true
	}
	image.LayoutFile = relativeTo(c.recipe.positions[at+".layout"].folder(c.recipe.file), image.Layout)
	if v := image.Verify; v != nil && v.Off == "" {
		c.add(at+".verify", "signatures are a registry's, and a layout comes from none", "remove it, or fetch the image by ref")
	}
	switch {
	case image.Name == (Reference{}):
		c.add(at, "the name of "+strconv.Quote(shorten(image.Layout))+" makes no name for an image", "add name, such as name: localhost/app:1")
		return false
	case image.Name.Digest != "":
		c.add(at+".name", "a name has no digest", "write a tag: the digest is the image's own")
		return false
	}
	return true
}

func (c *checker) verify(v *Verify, at string) {
	if v == nil {
		return
	}
	folder := func(path string) string { return c.recipe.positions[path].folder(c.recipe.file) }
	v.KeyFiles = nil
	for i, key := range v.Keys {
		v.KeyFiles = append(v.KeyFiles, relativeTo(folder(fmt.Sprintf("%s.keys[%d]", at, i)), key))
	}
	c.repeated(at+".keys", v.KeyFiles, func(s string) string { return s })
	if v.Policy != "" {
		v.PolicyFile = relativeTo(folder(at+".policy"), v.Policy)
	}
	given := len(v.Keys) > 0 || v.Policy != ""
	switch {
	case v.Off != "" && given:
		c.add(at+".off", "none and keys exclude each other", "keep one of them")
	case v.Off == "" && !given:
		c.add(at, "nothing says who signs", "add keys or policy, or write verify: none")
	}
}

// container checks one container by itself.
func (c *checker) container(run *Container, at string) {
	list := c.recipe.Containers
	switch image := list.Image(run.Image); {
	case image != nil:
		run.Image = image.Reference()
		c.containerPlatform(image, at)
	case list.Pull == PullNever:
		c.add(at+".image", run.Image.String()+" is not among images, and nothing is fetched at run time", "add it to images, or write pull: missing")
	}
	for i, v := range run.Volumes {
		c.containerVolume(run, v, fmt.Sprintf("%s.volumes[%d]", at, i))
	}
	c.repeatedPaths(run, at)
	for i, name := range run.EnvironmentFile {
		where := fmt.Sprintf("%s.environment_file[%d]", at, i)
		if c.path(where, name) && strings.ContainsAny(name, " \\\"'$%") {
			c.add(where, strconv.Quote(shorten(name))+" has characters that a unit cannot hold", "leave out blanks, quotes, \\, $ and %")
		}
	}
	c.repeated(at+".secrets", run.Secrets, func(s string) string { return s })
	if run.Network == NetworkHost || run.Network == NetworkNone {
		if len(run.Ports) > 0 {
			c.add(at+".ports", "a container with network: "+run.Network+" has no ports of its own to lead to", "remove them, or the network")
		}
	}
	if h := run.Health; h != nil && strings.ContainsAny(h.Command, "\r\n") {
		c.add(at+".health.command", "has more than one line", "join the commands with && or ;")
	}
	if run.Memory != 0 && run.Memory < 6<<20 {
		c.add(at+".memory", run.Memory.String()+" is too small", "use at least 6M")
	}
	c.rootless(run, at)
	if list.Runtime == Containerd {
		c.containerdOnly(run, at)
	}
}

// foreign are the architectures whose programs a machine of another runs by itself.
var foreign = map[string][]string{"amd64": {"386"}, "arm64": {"arm"}}

func (c *checker) containerPlatform(image *ContainerImage, at string) {
	arch := strings.Split(image.Platform, "/")[1]
	emulated := slices.ContainsFunc(c.recipe.Packages, func(p string) bool { return strings.HasPrefix(p, "qemu-user") })
	if arch == c.recipe.Architecture || slices.Contains(foreign[c.recipe.Architecture], arch) || emulated {
		return
	}
	c.add(at+".image", "the image is for "+image.Platform+", and the machine is "+c.recipe.Architecture, "set the image's platform, or add a package that runs it such as qemu-user-static")
}

func (c *checker) containerVolume(run *Container, v Volume, at string) {
	switch {
	case slices.Contains(v.Options, "ro") && slices.Contains(v.Options, "rw"):
		c.add(at, "ro and rw exclude each other", "keep one of them")
	case slices.Contains(v.Options, "z") && slices.Contains(v.Options, "Z"):
		c.add(at, "z and Z exclude each other", "keep one of them")
	}
	if c.recipe.Containers.Runtime != Podman {
		for _, option := range v.Options {
			if !volumeOptions[option] {
				c.add(at, fmt.Sprintf("%s has no option %s", c.recipe.Containers.Runtime, option), "remove it")
			}
		}
	}
	if !v.Named() && !v.ReadOnly() && !c.writable(v.Source) {
		c.add(at, v.Source+" is in the root, which is never written", "use a folder of a partition, such as /data/"+path.Base(v.Source)+", or add :ro")
	}
}

// writable reports whether the machine can write at path: on a partition, in memory, or where state says.
func (c *checker) writable(name string) bool {
	places := []string{"/run", "/tmp", "/dev", "/etc", "/var", "/home", "/root", "/opt", "/srv"}
	for _, p := range c.recipe.Partitions {
		if p.Mounted() {
			places = append(places, p.Mount)
		}
	}
	return slices.ContainsFunc(places, func(place string) bool { return name == place || strings.HasPrefix(name, place+"/") })
}

// repeatedPaths refuses two volumes, or a volume and a secret, at one place of a container.
func (c *checker) repeatedPaths(run *Container, at string) {
	first := map[string]int{}
	for i, v := range run.Volumes {
		where := fmt.Sprintf("%s.volumes[%d]", at, i)
		if j, twice := first[v.Path]; twice {
			c.add(where, v.Path+" is a volume already, at "+c.recipe.Position(fmt.Sprintf("%s.volumes[%d]", at, j)).String(), "use another path")
			continue
		}
		first[v.Path] = i
		if name, below := strings.CutPrefix(v.Path, "/run/secrets/"); below && slices.Contains(run.Secrets, name) {
			c.add(where, v.Path+" is a secret's place", "use another path")
		}
	}
}

func (c *checker) rootless(run *Container, at string) {
	if run.Rootless == "" {
		return
	}
	at += ".rootless"
	if c.recipe.Containers.Runtime != Podman {
		c.add(at, "only podman runs containers without root", "remove it, or write runtime: podman")
		return
	}
	c.rootlessUser(run.Rootless, at)
	if len(run.Secrets) > 0 {
		c.add(at, "the machine's credentials are root's, so a container without root has no secrets", "remove one of the two")
	}
	for i, p := range run.Ports {
		if p.Host < 1024 {
			c.add(at[:len(at)-len("rootless")]+fmt.Sprintf("ports[%d]", i), fmt.Sprintf("port %d is root's alone", p.Host), "use one from 1024 up, or remove rootless")
		}
	}
}

// rootlessUser checks a user who runs containers.
func (c *checker) rootlessUser(name, at string) {
	switch {
	case name == "root":
		c.add(at, "root is not without root", "remove it")
	case !slices.ContainsFunc(c.recipe.Users, func(u User) bool { return u.Name == name }):
		c.add(at, name+" is not among users", "add the user, or correct the name")
	}
}

// containerdOnly refuses what containerd has not by itself: it starts processes, and leaves networks, volumes and
// checks to others.
func (c *checker) containerdOnly(run *Container, at string) {
	for _, key := range []struct {
		name  string
		given bool
		do    string
	}{
		{"ports", len(run.Ports) > 0, "remove them: the container uses the machine's network"},
		{"health", run.Health != nil, "remove it"},
		{"entrypoint", len(run.Entrypoint) > 0, "remove it, or make an image that has it"},
		{"user", run.User != "", "remove it, or make an image that has it"},
		{"network", run.Network != "" && run.Network != NetworkHost && run.Network != NetworkNone, "use host or none"},
		{"environment_file", len(run.EnvironmentFile) > 1, "name one file"},
	} {
		if key.given {
			c.add(at+"."+key.name, "containerd alone does not have this", key.do)
		}
	}
	for i, v := range run.Volumes {
		if v.Named() {
			c.add(fmt.Sprintf("%s.volumes[%d]", at, i), "containerd has no volumes by name", "name a folder, such as /data/"+v.Source)
		}
	}
}
