package cidata

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Content types of user-data (cloud-init, "User data formats").
const (
	typeCloudConfig = "text/cloud-config"
	typeArchive     = "text/cloud-config-archive"
	typePatch       = "text/cloud-config-jsonp"
	typeScript      = "text/x-shellscript"
	typeInclude     = "text/x-include-url"
	typeIncludeOnce = "text/x-include-once-url"
	typeBoothook    = "text/cloud-boothook"
	typePartHandler = "text/part-handler"
	typeJinja       = "text/jinja2"
	typePlain       = "text/plain"
	typeMIME        = "multipart/mixed"
)

// firstLines are the beginnings that tell what a part is, a longer one before what it begins with.
var firstLines = []struct{ begin, contentType string }{
	{"#cloud-config-archive", typeArchive},
	{"#cloud-config-jsonp", typePatch},
	{"#cloud-config", typeCloudConfig},
	{"#cloud-boothook", typeBoothook},
	{"#include-once", typeIncludeOnce},
	{"#include", typeInclude},
	{"#part-handler", typePartHandler},
	{"## template: jinja", typeJinja},
	{"#!", typeScript},
}

// knownLines is what people may begin user-data with, for errors.
const knownLines = "#cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive or ## template: jinja"

// scriptTypes say when a script is run; they come with a type in a message only.
var scriptTypes = []string{typeScript + "-per-boot", typeScript + "-per-instance", typeScript + "-per-once"}

// kindOf returns the content type of a whole file, "" where cloud-init knows none.
func kindOf(data []byte) string {
	if isMessage(data) {
		return typeMIME
	}
	return lineKind(data)
}

// lineKind returns the content type of a part by its first line, "" where cloud-init knows none.
func lineKind(data []byte) string {
	if !utf8.Valid(data) {
		return "" // as cloud-init sees it
	}
	trimmed := bytes.TrimLeft(data[:min(len(data), 4096)], " \t\r\n\v\f")
	lower := strings.ToLower(firstLine(trimmed))
	for _, k := range firstLines {
		rest, ok := strings.CutPrefix(lower, k.begin)
		switch {
		case !ok:
		case k.contentType == typeScript || rest == "" || rest[0] == ' ' || rest[0] == '\t':
			return k.contentType
		case k.contentType == typeInclude || k.contentType == typeIncludeOnce:
			return k.contentType
		}
	}
	return ""
}

// isMessage reports whether cloud-init takes data as a MIME message.
func isMessage(data []byte) bool {
	return bytes.Contains(bytes.ToLower(data[:min(len(data), 4096)]), []byte("mime-version:"))
}

var gzipMagic = []byte{0x1f, 0x8b, 0x08}

func isGzip(data []byte) bool { return bytes.HasPrefix(data, gzipMagic) }
