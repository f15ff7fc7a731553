package userdata

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Content types of parts (cloud-init, "User data formats").
const (
	CloudConfig = "text/cloud-config"
	Archive     = "text/cloud-config-archive"
	JSONPatch   = "text/cloud-config-jsonp"
	Script      = "text/x-shellscript"
	Include     = "text/x-include-url"
	IncludeOnce = "text/x-include-once-url"
	Boothook    = "text/cloud-boothook"
	PartHandler = "text/part-handler"
	Jinja       = "text/jinja2"
	typePlain   = "text/plain"
	typeMIME    = "multipart/mixed"
)

// firstLines are the beginnings that tell what a part is, a longer one before what it begins with.
var firstLines = []struct{ begin, contentType string }{
	{"#cloud-config-archive", Archive},
	{"#cloud-config-jsonp", JSONPatch},
	{"#cloud-config", CloudConfig},
	{"#cloud-boothook", Boothook},
	{"#include-once", IncludeOnce},
	{"#include", Include},
	{"#part-handler", PartHandler},
	{"## template: jinja", Jinja},
	{"#!", Script},
}

// Beginnings is what people may begin user-data with, for errors.
const Beginnings = "#cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive or ## template: jinja"

// IsTimedScript reports whether a type says when a script is run. Such a type stands in the header of a message only.
func IsTimedScript(contentType string) bool {
	when, ok := strings.CutPrefix(contentType, Script+"-per-")
	return ok && (when == "boot" || when == "instance" || when == "once")
}

// typeOfFile returns the content type of a whole file, "" where cloud-init knows none.
func typeOfFile(data []byte) string {
	if isMessage(data) {
		return typeMIME
	}
	return TypeOf(data)
}

// TypeOf returns the content type of a part by its first line, "" where cloud-init knows none.
func TypeOf(data []byte) string {
	if !utf8.Valid(data) {
		return "" // as cloud-init sees it
	}
	trimmed := bytes.TrimLeft(data[:min(len(data), 4096)], " \t\r\n\v\f")
	lower := strings.ToLower(FirstLine(trimmed))
	for _, k := range firstLines {
		rest, ok := strings.CutPrefix(lower, k.begin)
		switch {
		case !ok:
		case k.contentType == Script || rest == "" || rest[0] == ' ' || rest[0] == '\t':
			return k.contentType
		case k.contentType == Include || k.contentType == IncludeOnce:
			return k.contentType
		}
	}
	return ""
}

// isMessage reports whether cloud-init takes data as a MIME message.
func isMessage(data []byte) bool {
	return bytes.Contains(bytes.ToLower(data[:min(len(data), 4096)]), []byte("mime-version:"))
}

// FirstLine returns the first line of data, without its end.
func FirstLine(data []byte) string {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return strings.TrimRight(string(line), "\r")
}
