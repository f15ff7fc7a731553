package recipes_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/applbuild/applbuild/recipes"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestSchemaFileIsCurrent keeps the file that editors complete this folder's recipes from equal to what the program
// prints.
func TestSchemaFileIsCurrent(t *testing.T) {
	schema, err := recipes.Schema()
	if err != nil {
		t.Fatal(err)
	}
	const name = "recipe.schema.json"
	if *update {
		if err := os.WriteFile(name, schema, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, schema) {
		t.Errorf("%s is not what Schema returns: run go test ./recipes -update", name)
	}
}

func TestEveryPropertyIsDescribed(t *testing.T) {
	data, err := recipes.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	properties := 0
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch value := value.(type) {
		case []any:
			for _, item := range value {
				walk(path, item)
			}
		case map[string]any:
			if value["type"] == "object" && value["additionalProperties"] != false {
				t.Errorf("%s allows keys that are not known", path)
			}
			for key, child := range value {
				if key != "properties" {
					walk(path, child)
					continue
				}
				for name, property := range child.(map[string]any) {
					properties++
					if text, _ := property.(map[string]any)["description"].(string); len(text) < 20 {
						t.Errorf("%s.%s has no description", path, name)
					}
					walk(path+"."+name, property)
				}
			}
		}
	}
	walk("", schema)
	if properties < 60 {
		t.Errorf("the schema has %d properties: the walk does not reach all of them", properties)
	}
}

// compiled returns the schema as an independent implementation of JSON Schema reads it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := recipes.Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("recipe.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("recipe.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate checks a recipe against the schema as an editor does.
func validate(t *testing.T, schema *jsonschema.Schema, text []byte) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(instance)
}

func TestSchemaAcceptsGoodRecipes(t *testing.T) {
	schema := compiled(t)
	texts := map[string][]byte{"starter": recipes.Starter(), "starter's examples": []byte(uncomment(string(recipes.Starter())))}
	for _, name := range embedded(t) {
		text, err := recipes.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = text
	}
	texts["short forms"] = []byte(head + "kernel: none\nboot: none\nmirrors: http://a.example\nroot: {compression: lz4, size: 2G}\nusers: [{name: a, sudo: true}, {name: b, sudo: nopasswd, groups: adm}]\noutput: {formats: oci, oci: {entrypoint: /bin/sh, environment: {A: 1, B: c}, ports: 80, labels: {a.b/c: d}}}\n")
	for name, text := range texts {
		if err := validate(t, schema, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefusesWhatLoadRefuses(t *testing.T) {
	schema := compiled(t)
	for _, text := range []string{
		"colour: blue", "root: {filesystem: zfs}", "root: {compression: {level: 99}}", "packages: vim", "packages: [Vim]", "hostname: -x",
		"users: [{uid: 1}]", "users: [{name: a, sudo: maybe}]", "recommends: 1", "boot: grub", "root: {size: 10X}", "units: {enable: [ssh]}",
		"files: [{content: x}]", "kernel: [a]", "mirrors: [{keyring: k}]", "output: {formats: [iso]}", "output: {formats: oci, oci: {environment: {A-B: c}}}",
		"output: {formats: oci, oci: {labels: [a]}}", "output: {formats: oci, oci: {name: Web:1}}", "output: {formats: oci, oci: {ports: [web]}}", "name: Kiosk",
	} {
		recipe := []byte(head + text + "\n")
		if strings.HasPrefix(text, "name:") {
			recipe = []byte("distribution: debian\nrelease: trixie\n" + text + "\n")
		}
		if validate(t, schema, recipe) == nil {
			t.Errorf("the schema accepts %s", text)
		}
		if _, err := recipes.Load("r.yml", recipes.Options{Architecture: "amd64", ReadFile: files{"r.yml": string(recipe)}.ReadFile}); err == nil {
			t.Errorf("Load accepts %s", text)
		}
	}
	if validate(t, schema, []byte("name: a\n")) == nil {
		t.Error("the schema accepts a recipe without distribution and include")
	}
}
