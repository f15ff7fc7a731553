package recipes

import (
	"fmt"
	"slices"
	"strings"
)

// The values of [Output.Formats].
const (
	FormatRaw = "raw"
	FormatOCI = "oci"
)

// Output says what is written where.
type Output struct {
	Dir     string   `json:"dir,omitempty" doc:"Folder for what is built, relative to this recipe; the command line's --output is taken before it." default:"out, in the folder applbuild is run in" example:"build"`
	Formats []string `json:"formats" doc:"Formats to write: raw is the disk, oci the root file system as a container image, an archive of an OCI image layout. Where oci is the only one there is no disk, and the recipe boots nothing." merge:"replace" scalar:"true" enum:"raw,oci" default:"raw"`
	OCI     OCI      `json:"oci,omitzero" doc:"What the container image says of itself and how it is compressed."`

	Path string `json:"-"` // Dir as a path to open; empty when Dir is
}

// Has reports whether a format is to be written.
func (o Output) Has(format string) bool { return slices.Contains(o.Formats, format) }

// OCI describes the container image that is made of the root file system: the config of the OCI image specification.
type OCI struct {
	Name        string            `json:"name" doc:"Name of the image, as a registry has it: [HOST[:PORT]/]PATH:TAG." pattern:"^(([a-zA-Z0-9.-]+[.][a-zA-Z0-9-]+|[a-zA-Z0-9.-]+:[0-9]{1,5}|localhost)(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" want:"write [HOST[:PORT]/]PATH:TAG, such as registry.example.com/web:1.4" default:"NAME:VERSION, with hyphens for what a tag cannot have" example:"registry.example.com/web:1.4"`
	Entrypoint  []string          `json:"entrypoint,omitempty" doc:"The program that a container runs, with the arguments that always go with it." merge:"replace" scalar:"true" example:"/usr/sbin/nginx"`
	Cmd         []string          `json:"cmd,omitempty" doc:"Arguments for the entrypoint, or the program without one, unless the container is given others." merge:"replace" scalar:"true" number:"true" example:"-g"`
	Environment map[string]string `json:"environment,omitempty" doc:"Environment variables of a container. PATH is that of a Debian system unless it is given." pattern:"^[A-Za-z_][A-Za-z0-9_]*$" want:"use letters, digits and underscores"`
	User        string            `json:"user,omitempty" doc:"User, and group if one is given, that the program runs as: names of the image or numbers." pattern:"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$" want:"write USER or USER:GROUP, such as www-data or 1000:1000" default:"root" example:"www-data" number:"true"`
	Workdir     string            `json:"workdir,omitempty" doc:"Folder that the program is started in, an absolute path." default:"/" example:"/srv"`
	Ports       []string          `json:"ports,omitempty" doc:"Ports that the program listens on, as PORT or PORT/PROTOCOL. This tells people and programs; it opens nothing." merge:"append" scalar:"true" pattern:"^[0-9]{1,5}(/(tcp|udp|sctp))?$" want:"write PORT or PORT/PROTOCOL, such as 8080/tcp" number:"true" example:"8080/tcp"`
	Volumes     []string          `json:"volumes,omitempty" doc:"Folders, as absolute paths, whose contents are a container's own and outlive it." merge:"append" scalar:"true" example:"/data"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Labels of the image. The OCI image specification names some, such as org.opencontainers.image.source." pattern:"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,254}[A-Za-z0-9])?$" want:"use letters, digits, dots, hyphens, underscores and slashes"`
	StopSignal  string            `json:"stop_signal,omitempty" doc:"Signal that asks the program to end." pattern:"^(SIG[A-Z]{2,10}[0-9]?([+-][0-9]{1,2})?|[1-9][0-9]?)$" want:"write a signal's name or number, such as SIGTERM" default:"that of the runtime, SIGTERM" example:"SIGQUIT" number:"true"`
	Compression string            `json:"compression" doc:"How the layers are compressed. Every runtime reads gzip and none; zstd is smaller and faster, but docker reads it from version 23 only." enum:"gzip,zstd,none" default:"gzip"`
}

// fill gives what was left out its default.
func (o *Output) fill(r *Recipe) {
	if len(o.Formats) == 0 {
		o.Formats = []string{FormatRaw}
	}
	if !o.Has(FormatOCI) {
		return
	}
	if o.OCI.Name == "" {
		o.OCI.Name = r.Name + ":" + strings.Map(func(c rune) rune {
			if c == '+' || c == '~' {
				return '-'
			}
			return c
		}, r.Version)
	}
	if o.OCI.Compression == "" {
		o.OCI.Compression = "gzip"
	}
	for i, port := range o.OCI.Ports {
		if !strings.Contains(port, "/") {
			o.OCI.Ports[i] = port + "/tcp"
		}
	}
}

// imageOnly reports whether nothing but a container image is written.
func (o Output) imageOnly() bool { return o.Has(FormatOCI) && !o.Has(FormatRaw) }

func (c *checker) output() {
	r := c.recipe
	o := &r.Output
	if o.Dir != "" {
		o.Path = relativeTo(r.positions["output.dir"].folder(r.file), o.Dir)
	}
	c.repeated("output.formats", o.Formats, func(s string) string { return s })
	if o.imageOnly() && r.Boot.Loader != LoaderNone {
		c.add("boot", "there is no disk to boot: the only format is oci", "remove it, or add raw to output.formats")
	}
	if !o.Has(FormatOCI) {
		if c.given("output.oci") {
			c.add("output.oci", "no container image is written", "add oci to output.formats, or remove it")
		}
		return
	}
	c.oci(&o.OCI)
}

func (c *checker) oci(oci *OCI) {
	same := func(s string) string { return s }
	c.repeated("output.oci.ports", oci.Ports, same)
	c.repeated("output.oci.volumes", oci.Volumes, same)
	for i, port := range oci.Ports {
		number, _, _ := strings.Cut(port, "/")
		if n := len(strings.TrimLeft(number, "0")); n == 0 || n == 5 && number > "65535" {
			c.add(fmt.Sprintf("output.oci.ports[%d]", i), number+" is no port", "use a number from 1 to 65535")
		}
	}
	for i, volume := range oci.Volumes {
		at := fmt.Sprintf("output.oci.volumes[%d]", i)
		if c.path(at, volume) && volume == "/" {
			c.add(at, "/ is the whole image", "name a folder in it")
		}
	}
	if oci.Workdir != "" {
		c.path("output.oci.workdir", oci.Workdir)
	}
}
