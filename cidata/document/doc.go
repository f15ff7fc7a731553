// Package document holds YAML documents whose every value knows where it was written: at a line and column of a file, or
// in a flag. What is wrong with a value can so be said with its place, also after it was carried into another document.
//
// Parse reads, Render writes, and what Render writes has a [Place] that leads back to where each value came from. Input is
// hostile: bounds on bytes, values, levels and aliases hold before memory is taken. The same values give the same bytes.
//
// It knows nothing of what keys mean, keeps no comments, and reads one document, not a stream of them. Formats: YAML 1.2.2
// as gopkg.in/yaml.v3 reads it, and the merge keys of YAML 1.1; plain values are written as they were read, so that a
// reader of YAML 1.1, such as cloud-init's, sees what it would see in the file they came from.
package document
