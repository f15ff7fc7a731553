package schema

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A PartType is the type of a user-data or of a part of it, as cloud-init names
// it in a MIME message.
type PartType string

// The types that cloud-init knows by the beginning of a file.
const (
	CloudConfigPart  PartType = "text/cloud-config"
	ArchivePart      PartType = "text/cloud-config-archive"
	JSONPatchPart    PartType = "text/cloud-config-jsonp"
	JinjaPart        PartType = "text/jinja2"
	ScriptPart       PartType = "text/x-shellscript"
	BoothookPart     PartType = "text/cloud-boothook"
	PartHandlerPart  PartType = "text/part-handler"
	IncludePart      PartType = "text/x-include-url"
	IncludeOncePart  PartType = "text/x-include-once-url"
	PerBootPart      PartType = "text/x-shellscript-per-boot"
	PerInstancePart  PartType = "text/x-shellscript-per-instance"
	PerOncePart      PartType = "text/x-shellscript-per-once"
	longestBeginning          = len("text/x-shellscript-per-instance")
)

// beginnings has a longer beginning before one that it begins with.
func beginnings() []struct {
	text string
	part PartType
} {
	return []struct {
		text string
		part PartType
	}{
		{string(PerBootPart), PerBootPart},
		{string(PerInstancePart), PerInstancePart},
		{string(PerOncePart), PerOncePart},
		{"#cloud-config-archive", ArchivePart},
		{"#cloud-config-jsonp", JSONPatchPart},
		{"#cloud-config", CloudConfigPart},
		{"## template: jinja", JinjaPart},
		{"#cloud-boothook", BoothookPart},
		{"#part-handler", PartHandlerPart},
		{"#include-once", IncludeOncePart},
		{"#include", IncludePart},
		{"#!", ScriptPart},
	}
}

// TypeOf returns the type of a user-data by how it begins, or "" where cloud-init
// knows none. Space before and upper case do not count, as for cloud-init. A MIME
// message and compressed data have none.
func TypeOf(data []byte) PartType {
	if !utf8.Valid(data) {
		return ""
	}
	text := strings.TrimLeftFunc(string(data), isSpace)
	text = strings.ToLower(text[:min(len(text), longestBeginning)])
	for _, b := range beginnings() {
		if strings.HasPrefix(text, b.text) {
			return b.part
		}
	}
	return ""
}

// isSpace is Python's idea of white space.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
