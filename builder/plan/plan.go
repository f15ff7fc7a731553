// Package plan names the stages of a build and gives each its content key.
//
// A key is a SHA-256 over the stage's name, the stage's own version number,
// its parameters and the keys of its inputs. It is pure: no file is read here
// and nothing is run. What is kept under a key is package store's matter.
package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Key names the result of a stage: 64 hexadecimal digits.
type Key string

// Stage is one step of a build, described completely enough that two stages
// with the same key have the same result, byte for byte.
type Stage struct {
	// Name is the stage's name as people read it, such as "base".
	Name string
	// Version is raised by whoever changes what the stage makes of the same
	// parameters, so that older results are not taken for newer ones.
	Version int
	// Params is what the stage depends on beyond its inputs. It is encoded as
	// JSON, so maps are ordered by key and unexported fields don't count.
	Params any
	// Inputs are the keys of the stages whose results this one reads, in the
	// order in which it takes them.
	Inputs []Key
}

// Key computes the stage's content key. It fails only where Params cannot be
// encoded as JSON.
func (s Stage) Key() (Key, error) {
	data, err := json.Marshal(struct {
		Name    string
		Version int
		Params  any
		Inputs  []Key
	}{s.Name, s.Version, s.Params, s.Inputs})
	if err != nil {
		return "", fmt.Errorf("key of stage %s: %w", s.Name, err)
	}
	sum := sha256.Sum256(data)
	return Key(hex.EncodeToString(sum[:])), nil
}
