package units

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// CheckCompose refuses a compose file whose services could not start on the
// machine: an image that is not on the disk or is to be built, files beside the
// compose file, which alone is on the machine. All that is wrong is joined, a
// [*Problem] each. The rest of the file is compose's to read (compose-spec).
func CheckCompose(file Given) error {
	g := composeFile{given{Given: file}}
	if len(file.Data) > maxGiven {
		return &Problem{file.Name, 1, "the file is larger than 1 MiB", "write less"}
	}
	var document yaml.Node
	if err := yaml.Unmarshal(file.Data, &document); err != nil {
		line, what := 1, strings.ReplaceAll(err.Error(), "\n", " ")
		if m := yamlLine.FindStringSubmatch(what); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				line, what = n, m[2]
			}
		}
		return &Problem{file.Name, line, "not YAML: " + what, "look at the indentation, colons and quotes in and above this line"}
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return &Problem{file.Name, 1, "there are no services", "write services:"}
	}
	g.root(document.Content[0])
	return errors.Join(g.problems...)
}

var yamlLine = regexp.MustCompile(`^yaml: line ([0-9]+): (.*)$`)

type composeFile struct{ given }

func (g *composeFile) root(root *yaml.Node) {
	if include := lookup(root, "include", 0); include != nil {
		g.add(include.Line, "include names other files, and only this one is on the machine", "write their services here")
	}
	services := lookup(root, "services", 0)
	if services == nil || services.Kind != yaml.MappingNode || len(services.Content) == 0 {
		g.add(root.Line, "there are no services", "write services:")
		return
	}
	for i := 0; i+1 < len(services.Content); i += 2 {
		name, service := services.Content[i], follow(services.Content[i+1])
		if service == nil || service.Kind != yaml.MappingNode {
			g.add(name.Line, fmt.Sprintf("service %q is no mapping", name.Value), "write image: in it")
			continue
		}
		g.service(name, service)
	}
	for _, kind := range []string{"secrets", "configs"} {
		list := lookup(root, kind, 0)
		if list == nil || list.Kind != yaml.MappingNode {
			continue
		}
		for i := 1; i < len(list.Content); i += 2 {
			if item := follow(list.Content[i]); item != nil {
				g.path(lookup(item, "file", 0))
			}
		}
	}
}

func (g *composeFile) service(name, service *yaml.Node) {
	for _, key := range []struct{ name, what, do string }{
		{"build", "is to be built, and images are not built on the machine", "build the image before, and name it in images as a layout"},
		{"extends", "extends another one, which is not followed", "write the service out"},
		{"develop", "is developed in place", "remove develop"},
	} {
		if node := lookup(service, key.name, 0); node != nil {
			g.add(node.Line, fmt.Sprintf("service %q %s", name.Value, key.what), key.do)
		}
	}
	image := lookup(service, "image", 0)
	switch {
	case image == nil:
		g.add(name.Line, fmt.Sprintf("service %q names no image", name.Value), "write image: in it")
	case image.Kind != yaml.ScalarNode:
		g.add(image.Line, "the image is no text", "write its reference")
	default:
		g.image(image.Line, image.Value)
	}
	if policy := lookup(service, "pull_policy", 0); policy != nil && g.Never {
		switch policy.Value {
		case "never", "missing", "if_not_present":
		default:
			g.add(policy.Line, fmt.Sprintf("pull_policy: %s fetches the image, and nothing is fetched at run time", policy.Value), "remove it, or write pull: missing in the recipe")
		}
	}
	g.paths(lookup(service, "env_file", 0), "path")
	g.paths(lookup(service, "volumes", 0), "source")
}

// paths checks a text, or a list of texts and of mappings that have the path as
// key.
func (g *composeFile) paths(node *yaml.Node, key string) {
	if node == nil {
		return
	}
	if node.Kind == yaml.ScalarNode {
		g.path(node)
		return
	}
	if node.Kind != yaml.SequenceNode {
		return
	}
	for _, item := range node.Content {
		switch item = follow(item); {
		case item == nil:
		case item.Kind == yaml.MappingNode:
			g.path(lookup(item, key, 0))
		default:
			g.path(item)
		}
	}
}

// path refuses what lies beside the compose file or in a home folder. In a
// list of volumes a text without a slash at its beginning is a volume's name.
func (g *composeFile) path(node *yaml.Node) {
	if node == nil || node.Kind != yaml.ScalarNode {
		return
	}
	if strings.HasPrefix(node.Value, ".") || strings.HasPrefix(node.Value, "~") {
		g.add(node.Line, fmt.Sprintf("%q lies beside this file, which alone is on the machine", node.Value), "write an absolute path on the machine, such as one of files or of a partition")
	}
}

// Bounds of what is followed to a value: aliases or items of a merge key, and
// merge keys in what is merged.
const (
	maxFollowed = 16
	maxMerged   = 3
)

// follow returns what an alias stands for; nil where that goes on too long.
func follow(node *yaml.Node) *yaml.Node {
	for range maxFollowed {
		if node == nil || node.Kind != yaml.AliasNode {
			return node
		}
		node = node.Alias
	}
	return nil
}

// lookup returns the value of a key, or nil. Merge keys are followed.
func lookup(node *yaml.Node, key string, depth int) *yaml.Node {
	if node = follow(node); node == nil || node.Kind != yaml.MappingNode || depth > maxMerged {
		return nil
	}
	var merged *yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return follow(node.Content[i+1])
		}
		if node.Content[i].Tag == "!!merge" && merged == nil {
			merged = lookupMerged(follow(node.Content[i+1]), key, depth+1)
		}
	}
	return merged
}

func lookupMerged(node *yaml.Node, key string, depth int) *yaml.Node {
	if node == nil || node.Kind != yaml.SequenceNode {
		return lookup(node, key, depth)
	}
	for i, item := range node.Content {
		if i == maxFollowed {
			break
		}
		if value := lookup(item, key, depth); value != nil {
			return value
		}
	}
	return nil
}
