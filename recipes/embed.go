package recipes

import "embed"

// Files holds the recipes of this folder, include/ with them, by their paths in it. [Options.ReadFile] takes its
// ReadFile.
//
//go:embed *.yml include/*.yml
var Files embed.FS
