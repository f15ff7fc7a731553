package units_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers/units"
)

// onDisk knows one image.
func onDisk(reference string) error {
	if reference != "web:1" {
		return fmt.Errorf("%s is not on the disk", reference)
	}
	return nil
}

func TestQuadletsOfOnesOwnNameImagesOfTheDisk(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a.container", "[Container]\nImage=web:1\n", ""},
		{"a.container", "# Image=no\n[Unit]\nImage=x\n[Container]\n Image = web:1 \nPull=missing\n", ""},
		{"a.container", "[Container]\nImage=db:2\n", "a.container:2: db:2 is not on the disk: add it to images of the recipe"},
		{"a.container", "[Container]\nExec=a \\\n  Image=db\nImage=db\n", "a.container:4: db is not on the disk: add it to images of the recipe"},
		{"a.container", "[Container]\nExec=a\n", "a.container:1: no image is named: write Image= in the section Container"},
		{"a.container", "[Container]\nImage=web:%i\n", `a.container:2: image "web:%i" has parts that only the machine knows: write the reference out`},
		{"a.container", "[Container]\nImage=a.build\n", "a.container:2: images are not built on the machine: build the image before, and name it in images as a layout"},
		{"a.container", "[Container]\nImage=web:1\nPull=newer\nAutoUpdate=registry\n", "a.container:3: Pull=newer fetches the image, and nothing is fetched at run time: write Pull=never, or pull: missing in the recipe\na.container:4: AutoUpdate=registry fetches the image, and nothing is fetched at run time: remove it"},
		{"a.container.d/b.conf", "[Container]\nImage=db\n", "a.container.d/b.conf:2: db is not on the disk: add it to images of the recipe"},
		{"a.container.d/b.conf", "[Container]\nUser=1\n", ""},
		{"a.volume", "[Volume]\nDriver=image\nImage=db\n", "a.volume:3: db is not on the disk: add it to images of the recipe"},
		{"a.kube", "[Kube]\nYaml=a.yml\n", "a.kube:1: .kube files fetch images, and nothing is fetched at run time: write .container files"},
		{"a.build", "", "a.build:1: images are not built on the machine: build the image before, and name it in images as a layout"},
		{"a.network", "[Network]\n", ""},
		{"a.env", "Image=db\n", ""},
	} {
		got := ""
		if err := units.CheckQuadlet(units.Given{Name: test.name, Data: []byte(test.text), Image: onDisk, Never: true}); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s with %q:\n got %s\nwant %s", test.name, test.text, got, test.want)
		}
	}
}

func TestComposeFilesNameImagesOfTheDisk(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"services:\n  web:\n    image: web:1\n    volumes: [data:/x, /data/y:/y]\n", ""},
		{"x-base: &base\n  image: web:1\nservices:\n  web:\n    <<: *base\n  two: *base\n", ""},
		{"services:\n  web:\n    image: db\n", "c.yml:3: db is not on the disk: add it to images of the recipe"},
		{"services:\n  web:\n    build: .\n", `c.yml:3: service "web" is to be built, and images are not built on the machine: build the image before, and name it in images as a layout` + "\n" + `c.yml:2: service "web" names no image: write image: in it`},
		{"services:\n  web:\n    image: ${IMAGE:-web:1}\n", `c.yml:3: image "${IMAGE:-web:1}" has parts that only the machine knows: write the reference out`},
		{"services:\n  web:\n    image: web:1\n    pull_policy: always\n    extends: {file: x.yml}\n", `c.yml:5: service "web" extends another one, which is not followed: write the service out` + "\n" + `c.yml:4: pull_policy: always fetches the image, and nothing is fetched at run time: remove it, or write pull: missing in the recipe`},
		{"services:\n  web:\n    image: web:1\n    env_file: .env\n    volumes:\n      - ./src:/src\n      - {type: bind, source: ~/x, target: /x}\nsecrets:\n  s: {file: ./s}\n", strings.Join([]string{
			`c.yml:4: ".env" lies beside this file, which alone is on the machine: write an absolute path on the machine, such as one of files or of a partition`,
			`c.yml:6: "./src:/src" lies beside this file, which alone is on the machine: write an absolute path on the machine, such as one of files or of a partition`,
			`c.yml:7: "~/x" lies beside this file, which alone is on the machine: write an absolute path on the machine, such as one of files or of a partition`,
			`c.yml:9: "./s" lies beside this file, which alone is on the machine: write an absolute path on the machine, such as one of files or of a partition`}, "\n")},
		{"include: [x.yml]\n", "c.yml:1: include names other files, and only this one is on the machine: write their services here\nc.yml:1: there are no services: write services:"},
		{"services:\n  web: x\n", `c.yml:2: service "web" is no mapping: write image: in it`},
		{"services: [\n", "c.yml:1: not YAML: did not find expected node content: look at the indentation, colons and quotes in and above this line"},
		{"", "c.yml:1: there are no services: write services:"},
	} {
		got := ""
		err := units.CheckCompose(units.Given{Name: "c.yml", Data: []byte(test.text), Image: onDisk, Never: true})
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q:\n got %s\nwant %s", test.text, got, test.want)
		}
		var problem *units.Problem
		if err != nil && (!errors.As(err, &problem) || problem.Line == 0) {
			t.Errorf("%q: no problem with a line in %v", test.text, err)
		}
	}
}

func FuzzGiven(f *testing.F) {
	f.Add("services:\n  a: &x\n    <<: [*x, *x]\n    image: *x\n")
	f.Add("[Container]\nImage=a\\\n")
	f.Add("services: &a {b: *a}\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"a.container", "a.container.d/x.conf"} {
			_ = units.CheckQuadlet(units.Given{Name: name, Data: []byte(text), Image: onDisk})
		}
		_ = units.CheckCompose(units.Given{Name: "c.yml", Data: []byte(text), Image: onDisk})
	})
}
