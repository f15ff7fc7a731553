// Package seedfile reads the description of a seed: the YAML file of docs/cidata.md, and the settings of a command line
// that are laid over it. It knows the keys and the form of their values, each with its place.
//
// It opens none of the files that a description names and knows nothing of cloud-init: package cidata makes the seed.
package seedfile
