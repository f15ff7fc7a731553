package units

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxGiven is the largest file of a recipe's own that is read here, in bytes.
const maxGiven = 1 << 20

// A Given file is a quadlet or compose file that the recipe brings itself.
type Given struct {
	Name string // for complaints, and for a quadlet what kind it is
	Data []byte
	// Image says why a container may not be made of an image, by the reference
	// that the file has; nil if it may.
	Image func(reference string) error
	// Never says that nothing is fetched on the machine.
	Never bool
}

// A Problem is what is wrong with a given file, and what to do about it.
type Problem struct {
	File string
	Line int // the first is 1
	What string
	Do   string
}

// Error gives FILE:LINE: WHAT: DO.
func (p *Problem) Error() string { return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.What, p.Do) }

// A given file's reader collects problems.
type given struct {
	Given
	problems []error
}

func (g *given) add(line int, what, do string) {
	g.problems = append(g.problems, &Problem{g.Name, line, what, do})
}

func (g *given) image(line int, reference string) {
	switch {
	case reference == "":
		g.add(line, "the image is empty", "write its reference")
	case strings.ContainsAny(reference, "$%"):
		g.add(line, fmt.Sprintf("image %q has parts that only the machine knows", reference), "write the reference out")
	default:
		if err := g.Image(reference); err != nil {
			g.add(line, err.Error(), "add it to images of the recipe")
		}
	}
}

// CheckQuadlet refuses a quadlet whose image is not on the disk, or that could
// fetch or build one. All that is wrong is joined, a [*Problem] each. Files
// that are no quadlets have nothing wrong.
func CheckQuadlet(file Given) error {
	g := given{Given: file}
	if len(file.Data) > maxGiven {
		return &Problem{file.Name, 1, "the file is larger than 1 MiB", "write several"}
	}
	kind := path.Ext(file.Name)
	if kind == ".conf" { // a drop-in, in web.container.d
		kind = path.Ext(strings.TrimSuffix(path.Dir(file.Name), ".d"))
	}
	switch kind {
	case ".build":
		g.add(1, "images are not built on the machine", "build the image before, and name it in images as a layout")
	case ".image", ".kube":
		if file.Never {
			g.add(1, kind+" files fetch images, and nothing is fetched at run time", "write .container files")
		}
	case ".container", ".volume":
		g.quadlet(kind)
	}
	return errors.Join(g.problems...)
}

func (g *given) quadlet(kind string) {
	section, has := "", false
	lines := strings.Split(string(g.Data), "\n")
	for i := 0; i < len(lines); i++ {
		at, line := i+1, strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i])
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if section != "Container" && section != "Volume" {
			continue
		}
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		has = has || key == "Image" || key == "Rootfs"
		g.quadletKey(at, key, value)
	}
	if kind == ".container" && path.Ext(g.Name) == kind && !has {
		g.add(1, "no image is named", "write Image= in the section Container")
	}
}

func (g *given) quadletKey(line int, key, value string) {
	switch {
	case key == "Image" && strings.HasSuffix(value, ".build"):
		g.add(line, "images are not built on the machine", "build the image before, and name it in images as a layout")
	case key == "Image" && strings.HasSuffix(value, ".image"):
		if g.Never {
			g.add(line, value+" fetches an image, and nothing is fetched at run time", "write the image's reference")
		}
	case key == "Image":
		g.image(line, value)
	case key == "Pull" && g.Never && value != "never" && value != "missing":
		g.add(line, "Pull="+value+" fetches the image, and nothing is fetched at run time", "write Pull=never, or pull: missing in the recipe")
	case key == "AutoUpdate" && g.Never && value == "registry":
		g.add(line, "AutoUpdate=registry fetches the image, and nothing is fetched at run time", "remove it")
	}
}
