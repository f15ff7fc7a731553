package recipes

import (
	"path"
	"strings"
)

// The values of [Containers.Runtime], [Containers.Pull], [Container.Restart] and [Container.Network].
const (
	Podman     = "podman"
	Docker     = "docker"
	Containerd = "containerd"

	PullNever   = "never"
	PullMissing = "missing"
	PullAlways  = "always"

	RestartNo        = "no"
	RestartOnFailure = "on-failure"
	RestartAlways    = "always"

	NetworkHost = "host"
	NetworkNone = "none"
)

// sharedNetwork is the network of containers that name none.
const sharedNetwork = "appliance"

// Containers says which containers the appliance has, and what runs them.
type Containers struct {
	Runtime   string           `json:"runtime" doc:"What runs the containers. Its packages come with it." enum:"podman,docker,containerd" default:"podman"`
	Namespace string           `json:"namespace,omitempty" doc:"Namespace of containerd that images and containers are in." pattern:"^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$" want:"use letters and digits, with single dots, hyphens or underscores between them" default:"default" example:"k8s.io"`
	Images    []ContainerImage `json:"images,omitempty" doc:"Images that are on the disk. A reference in place of the mapping is fetched from its registry." merge:"image"`
	Verify    *Verify          `json:"verify,omitempty" doc:"How images are to be signed, for all that say nothing else. Left out, they need no signature."`
	Pull      string           `json:"pull" doc:"What is fetched at run time: nothing, images that are missing on the disk, or every image whenever its container starts. With never, each container's image must be among images." enum:"never,missing,always" default:"never"`
	PlainHTTP []string         `json:"plain_http,omitempty" doc:"Registries that may be asked without TLS while the image is built, as HOST or HOST:PORT. localhost may always be." merge:"append" scalar:"true" pattern:"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:]+\\])(:[0-9]{1,5})?$" want:"write HOST or HOST:PORT" example:"registry.lan:5000"`
	Run       []Container      `json:"run,omitempty" doc:"Containers that start with the machine." merge:"name"`
	Rootless  []string         `json:"rootless,omitempty" doc:"Users of this recipe who run containers of their own, with podman: they have the images too. Those who run a container of run have them anyway." merge:"append" scalar:"true" pattern:"^[a-z_][a-z0-9_-]{0,31}$" want:"write a user's name" example:"app"`
	Quadlets  []string         `json:"quadlets,omitempty" doc:"Folders of podman's quadlet files, or such files, that are used as they are, relative to this recipe. For podman 4.8 and later." merge:"append" scalar:"true" example:"quadlets"`
	Compose   string           `json:"compose,omitempty" doc:"A compose file whose services start with the machine, relative to this recipe. For docker." example:"docker-compose.yml"`

	QuadletFiles []string `json:"-"` // Quadlets as paths to open
	ComposeFile  string   `json:"-"` // Compose as a path to open
}

// A ContainerImage is an image on the disk. Exactly one of Ref and Layout is given.
type ContainerImage struct {
	Ref      Reference `json:"ref,omitzero" doc:"Reference of the image in its registry, with a tag or a digest. A tag is pinned in the lock." short:"true" example:"registry.example.com/web:1.4"`
	Layout   string    `json:"layout,omitempty" doc:"An image in files: the folder of an OCI layout, or a file made by podman save or docker save (oci-archive, docker-archive), relative to this recipe." example:"out/app-oci"`
	Name     Reference `json:"name,omitzero" doc:"Reference that an image of a layout is known by on the machine." default:"localhost/NAME:latest, where NAME is that of the folder or file without .tar" example:"example.com/app:2"`
	Platform string    `json:"platform" doc:"Platform of the image, as OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT." pattern:"^linux/[a-z0-9]+(/v[0-9]+)?$" want:"write a platform such as linux/arm64" default:"linux and the recipe's architecture" example:"linux/arm64"`
	Verify   *Verify   `json:"verify,omitempty" doc:"How this image is to be signed; none is not at all." default:"what verify of containers says"`

	LayoutFile string `json:"-"` // Layout as a path to open
}

// Verify says by whom images are to be signed. At least one of Keys and Policy is given, unless Off is "none".
type Verify struct {
	Off    string   `json:"off,omitempty" doc:"none asks for no signature." short:"true" enum:"none"`
	Keys   []string `json:"keys,omitempty" doc:"Files with cosign's public keys, relative to this recipe. A signature by one of them is enough." merge:"append" scalar:"true" example:"cosign.pub"`
	Policy string   `json:"policy,omitempty" doc:"File with a policy as in containers-policy.json(5), relative to this recipe." example:"policy.json"`

	KeyFiles   []string `json:"-"` // Keys as paths to open
	PolicyFile string   `json:"-"` // Policy as a path to open
}

// A Container starts with the machine.
type Container struct {
	Name            string            `json:"name" doc:"Name of the container. Its unit is NAME.service." required:"true" pattern:"^[a-z0-9][a-z0-9_.-]{0,62}$" want:"use up to 63 lower-case letters, digits, dots, hyphens and underscores, beginning with a letter or digit" example:"web"`
	Image           Reference         `json:"image" doc:"The image, by the reference it has in images." required:"true" example:"registry.example.com/web:1.4"`
	Command         []string          `json:"command,omitempty" doc:"Command in place of the image's, as a list of words or as one text that is taken apart at blanks; quotes hold words together." words:"true" empty:"true" example:"serve --port 8080"`
	Entrypoint      []string          `json:"entrypoint,omitempty" doc:"Entrypoint in place of the image's, written as command is." words:"true" empty:"true" example:"/usr/bin/app"`
	Ports           []Port            `json:"ports,omitempty" doc:"Ports of the machine that lead to the container, as [ADDRESS:]PORT:CONTAINERPORT[/tcp|/udp]." merge:"append" scalar:"true" example:"80:8080"`
	Volumes         []Volume          `json:"volumes,omitempty" doc:"Folders of the machine, or volumes by name, in the container, as SOURCE:PATH[:OPTIONS]." merge:"append" scalar:"true" example:"/data/web:/srv:Z"`
	Environment     map[string]string `json:"environment,omitempty" doc:"Environment variables." pattern:"^[A-Za-z_][A-Za-z0-9_]*$" want:"use letters, digits and underscores, not beginning with a digit"`
	EnvironmentFile []string          `json:"environment_file,omitempty" doc:"Absolute paths of files on the machine with environment variables, a line NAME=VALUE each." merge:"append" scalar:"true" example:"/etc/appliance/web.env"`
	Secrets         []string          `json:"secrets,omitempty" doc:"Credentials of the machine that the container has as /run/secrets/NAME." merge:"append" scalar:"true" pattern:"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$" want:"use up to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit" example:"db-password"`
	After           []string          `json:"after,omitempty" doc:"Containers that are started before this one and that it needs." merge:"append" scalar:"true" example:"db"`
	Health          *Health           `json:"health,omitempty" doc:"How to find out whether the container works. A command in place of the mapping has the defaults for the rest."`
	Restart         string            `json:"restart" doc:"When the container is started again: never, after a failure, or whenever it has ended." enum:"no,on-failure,always" default:"always"`
	ReadOnly        bool              `json:"read_only" doc:"The container cannot write to its image; /tmp, /var/tmp and /run are in memory." default:"false"`
	User            string            `json:"user,omitempty" doc:"User in the container, as USER or USER:GROUP by name or number." pattern:"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$" want:"write USER or USER:GROUP" default:"the image's" example:"1000:1000" number:"true"`
	Network         string            `json:"network,omitempty" doc:"Network of the container: host is the machine's, none is none, any other name a network of the containers that name it." pattern:"^[a-z0-9][a-z0-9_.-]{0,62}$" want:"write host, none or a name of lower-case letters, digits, dots, hyphens and underscores" default:"one that all containers share, in which they find each other by name" example:"host"`
	Memory          Size              `json:"memory,omitempty" doc:"Most memory that the container may use." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"no limit" example:"512M" number:"true"`
	CPUs            string            `json:"cpus,omitempty" doc:"How many processors' time the container may use." pattern:"^([1-9][0-9]{0,2}([.][0-9]{1,2})?|0[.]([1-9][0-9]?|0[1-9]))$" want:"write a number such as 2 or 0.5" default:"no limit" example:"1.5" number:"true"`
	Labels          map[string]string `json:"labels,omitempty" doc:"Labels of the container." pattern:"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$" want:"use letters, digits, dots, hyphens, underscores and slashes"`
	Rootless        string            `json:"rootless,omitempty" doc:"User of the machine that runs the container instead of root, with podman. It is one of users." pattern:"^[a-z_][a-z0-9_-]{0,31}$" want:"write a user's name" default:"root runs it" example:"app"`
}

// Health is a container's own check.
type Health struct {
	Command     string   `json:"command" doc:"Command that succeeds while the container works. It is run in the container by its shell." required:"true" short:"true" example:"curl -f localhost:8080/health"`
	Interval    Duration `json:"interval" doc:"Time between two runs of the command." pattern:"^[0-9]+([.][0-9]+)?(ms|s|m|h)?$" want:"write seconds, or a number with ms, s, m or h such as 30s" default:"30s" example:"10s" number:"true"`
	Timeout     Duration `json:"timeout" doc:"Time after which the command has failed." pattern:"^[0-9]+([.][0-9]+)?(ms|s|m|h)?$" want:"write seconds, or a number with ms, s, m or h such as 30s" default:"30s" example:"5s" number:"true"`
	Retries     int      `json:"retries" doc:"Failures in a row after which the container is unhealthy." minimum:"1" maximum:"1000" default:"3"`
	StartPeriod Duration `json:"start_period" doc:"Time at the start in which failures do not count." pattern:"^[0-9]+([.][0-9]+)?(ms|s|m|h)?$" want:"write seconds, or a number with ms, s, m or h such as 30s" default:"0s" example:"1m" number:"true"`
}

// Reference is what the image is called on the machine: an image with a tag and a digest is called by its tag, an
// image of a layout by its name.
func (i *ContainerImage) Reference() Reference {
	ref := i.Ref
	if i.Layout != "" {
		ref = i.Name
	}
	if ref.Tag != "" {
		ref.Digest = ""
	}
	return ref
}

// Image returns the image on the disk that ref names, or nil: by what it is called on the machine, as it stands in
// images, or by the digest that it has there.
func (c *Containers) Image(ref Reference) *ContainerImage {
	for i := range c.Images {
		image := &c.Images[i]
		untagged := image.Ref
		untagged.Tag = ""
		if ref == image.Reference() || ref == image.Ref || ref.Digest != "" && ref == untagged {
			return image
		}
	}
	return nil
}

// fillContainers gives what was left out of the containers its default, and each image the verification that holds
// for it: nil is none.
func (r *Recipe) fillContainers() {
	c := r.Containers
	if c == nil {
		return
	}
	def := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	def(&c.Runtime, Podman)
	def(&c.Pull, PullNever)
	if c.Runtime == Containerd {
		def(&c.Namespace, "default")
	}
	for i := range c.Images {
		image := &c.Images[i]
		def(&image.Platform, "linux/"+r.Architecture)
		if image.Layout != "" && image.Name.Path == "" {
			image.Name = layoutName(image.Layout)
		}
	}
	for i := range c.Run {
		run := &c.Run[i]
		def(&run.Restart, RestartAlways)
		if h := run.Health; h != nil {
			h.fill()
		}
	}
}

// layoutName is the reference of a layout that was given none; the zero value where its file's name makes none.
func layoutName(layout string) Reference {
	base := strings.TrimSuffix(path.Base(path.Clean("/"+layout)), ".tar")
	ref, err := ParseReference("localhost/" + base + ":latest")
	if err != nil {
		return Reference{}
	}
	return ref
}

func (h *Health) fill() {
	if h.Interval == 0 {
		h.Interval = Duration(defaultHealth)
	}
	if h.Timeout == 0 {
		h.Timeout = Duration(defaultHealth)
	}
	if h.Retries == 0 {
		h.Retries = 3
	}
}
