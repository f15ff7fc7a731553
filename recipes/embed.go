package recipes

import (
	"bytes"
	"embed"
)

// Files holds the recipes of this folder, include/ and seeds/ with them, by their paths in it. [Options.ReadFile] takes its
// ReadFile. They are named one by one: a lock beside them is none of them.
//
//go:embed debian-cloud.yml debian-minimal.yml ubuntu-minimal.yml include/minimal.yml seeds/debian-cloud.yml seeds/debian-cloud-later.yml
var Files embed.FS

//go:embed starter/recipe.yml
var starter []byte

// Starter returns a commented recipe to begin with. It can be built as it is.
func Starter() []byte { return bytes.Clone(starter) }
