package cidata

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"unicode/utf8"
)

// Bounds on what user-data may unfold to.
const (
	maxParts     = 1000
	maxUnfolded  = 128 << 20 // bytes of all parts
	maxPartDepth = 8
)

// A part is one thing in user-data that cloud-init gives to a handler.
type part struct {
	name        string // as the message names it, empty where it does not
	contentType string // as cloud-init takes it
	data        []byte
	at          place
	archived    bool // an item of an archive
}

// A walker takes user-data apart as cloud-init's UserDataProcessor does, without fetching anything.
type walker struct {
	visit    func(part)
	parts    int
	unfolded int
	full     bool // a bound was met: nothing more is looked at
	problems Errors
}

func (w *walker) problem(pos Position, what, do string) {
	w.problems = append(w.problems, &Error{Position: pos, What: what, Do: do})
}

// walk visits the parts of user-data.
func (w *walker) walk(data []byte, at place) {
	w.whole(data, "", at, 0)
}

// whole takes data without a content type apart.
func (w *walker) whole(data []byte, name string, at place, depth int) {
	if !w.fits(data, at, depth) {
		return
	}
	if isGzip(data) {
		w.gunzip(data, at, func(data []byte, at place) { w.whole(data, name, at, depth+1) })
		return
	}
	if isMessage(data) {
		w.message(data, at, depth)
		return
	}
	w.typed(part{name: name, contentType: lineKind(data), data: data, at: at}, depth)
}

func (w *walker) fits(data []byte, at place, depth int) bool {
	w.parts++
	w.unfolded += len(data)
	if depth > maxPartDepth || w.parts > maxParts || w.unfolded > maxUnfolded {
		if !w.full {
			w.full = true
			w.problems = append(w.problems, &Error{Position: at(1, 1), What: "user-data unfolds to too much", Err: ErrTooLarge,
				Do: fmt.Sprintf("stay below %d parts, %d MiB and %d parts within each other", maxParts, maxUnfolded>>20, maxPartDepth)})
		}
		return false
	}
	return true
}

// gunzip hands over what data unfolds to.
func (w *walker) gunzip(data []byte, at place, then func([]byte, place)) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(r, maxUnfolded+1))
	}
	if err != nil {
		w.problem(wholeFile(at(1, 1)), "gzip is damaged: "+err.Error(), "make it again")
		return
	}
	then(data, within(at, "gunzipped"))
}

// within is the place of text that stands in no file by itself.
func within(at place, what string) place {
	return inFile(at(1, 1).File + ", " + what)
}

func wholeFile(pos Position) Position {
	if pos.Line == 1 {
		return Position{File: pos.File}
	}
	return pos
}

// typed visits a part whose type is known, and takes an archive apart.
func (w *walker) typed(p part, depth int) {
	w.visit(p)
	if p.contentType == typeArchive {
		w.archive(p, depth)
	}
}

// unknownKind is the problem of a part whose beginning says nothing.
func unknownKind(data []byte, at place) *Error {
	line := firstLine(data)
	do := "begin with " + knownLines
	what := "first line " + quote(line) + " is none that cloud-init knows"
	switch lower := strings.ToLower(strings.ReplaceAll(line, " ", "")); {
	case len(data) == 0:
		what = "is empty"
	case bytes.HasPrefix(data, []byte("\ufeff")):
		what, do = "begins with a byte order mark, so that cloud-init does not know it", "save it as UTF-8 without one"
	case !utf8.Valid(data):
		what, do = "is no text in UTF-8", "save it as UTF-8, "+do
	case !isText([]byte(line)):
		what = "is binary"
	case strings.HasPrefix(lower, "#cloud-config"), strings.HasPrefix(lower, "#cloudconfig"), strings.HasPrefix(lower, "#cloud_config"):
		do = "write #cloud-config, and nothing else in that line"
	}
	return &Error{Position: at(1, 1), What: what, Do: do}
}

// message takes a MIME message apart (RFC 2045, 2046).
func (w *walker) message(data []byte, at place, depth int) {
	header := data
	if bytes.HasPrefix(data, []byte("From ")) { // as in a mailbox
		_, header, _ = bytes.Cut(data, []byte("\n"))
	}
	m, err := mail.ReadMessage(bytes.NewReader(header))
	if kind := lineKind(data); err != nil && kind != "" {
		// A script that writes mail, for example.
		w.typed(part{contentType: kind, data: data, at: at}, depth)
		return
	}
	if err != nil {
		w.problem(at(1, 1), "not a MIME message: "+err.Error(), "begin with the headers Content-Type and MIME-Version, then an empty line")
		return
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		w.problem(at(1, 1), "not a MIME message: "+err.Error(), "make it again")
		return
	}
	offset := max(bytes.LastIndex(data, body), 0)
	w.entity(m.Header.Get, body, shifted(data, offset, at), depth)
}

// shifted is the place of what begins at an offset of data.
func shifted(data []byte, offset int, at place) place {
	return func(line, column int) Position { return at(line+bytes.Count(data[:offset], []byte("\n")), column) }
}

// entity takes one part of a message, or the message itself, apart. body is still in its transfer encoding.
func (w *walker) entity(header func(string) string, body []byte, at place, depth int) {
	contentType, params, err := mime.ParseMediaType(header("Content-Type"))
	if err != nil || !strings.Contains(contentType, "/") {
		contentType = typePlain
	}
	if strings.HasPrefix(contentType, "multipart/") {
		w.multipart(body, params["boundary"], at, depth)
		return
	}
	_, disposition, _ := mime.ParseMediaType(header("Content-Disposition"))
	name := cmp.Or(disposition["filename"], fmt.Sprintf("part-%03d", w.parts))
	body, moved, err := decodeTransfer(body, header("Content-Transfer-Encoding"))
	if err != nil {
		w.problem(at(1, 1), oneLine(name)+": "+err.Error(), "make the message again")
		return
	}
	if moved {
		at = within(at, oneLine(name))
	}
	if strings.HasPrefix(contentType, "application/") && (strings.Contains(contentType, "gzip") || strings.Contains(contentType, "gunzip") || strings.HasPrefix(contentType, "application/x-compress")) {
		w.gunzip(body, at, func(data []byte, at place) {
			if w.fits(data, at, depth) {
				w.typed(part{name: name, contentType: lineKind(data), data: data, at: at}, depth)
			}
		})
		return
	}
	if !w.fits(body, at, depth) {
		return
	}
	switch contentType {
	case typePlain, "text/x-not-multipart":
		contentType = lineKind(body)
	case typeScript:
		if kind := lineKind(body); kind != "" {
			contentType = kind
		}
	}
	w.typed(part{name: name, contentType: contentType, data: body, at: at}, depth)
}

// multipart takes the parts of a message apart.
func (w *walker) multipart(body []byte, boundary string, at place, depth int) {
	if depth >= maxPartDepth {
		w.fits(body, at, maxPartDepth+1)
		return
	}
	if boundary == "" {
		w.problem(at(1, 1), "the message names no boundary", "make the message again")
		return
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	offset, found := 0, false
	for !w.full {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		var data []byte
		if err == nil {
			data, err = io.ReadAll(p)
		}
		if err != nil {
			w.problem(at(1, 1), "the message is cut off or damaged: "+err.Error(), "make it again")
			return
		}
		found = true
		if i := bytes.Index(body[offset:], append([]byte("\n"), data...)); i >= 0 {
			offset += i + 1
		}
		w.entity(p.Header.Get, data, shifted(body, offset, at), depth+1)
		offset = min(offset+len(data), len(body))
	}
	if !found {
		w.problem(at(1, 1), "the message has no parts", "make it again")
	}
}

// decodeTransfer undoes a transfer encoding (RFC 2045, section 6) and tells whether lines moved by it.
func decodeTransfer(body []byte, encoding string) (data []byte, moved bool, err error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "7bit", "8bit", "binary":
		return body, false, nil
	case "base64":
		joined := bytes.Join(bytes.Fields(body), nil)
		data, err = base64.StdEncoding.AppendDecode(nil, joined)
		if err != nil {
			return nil, true, fmt.Errorf("base64: %w", err)
		}
		return data, true, nil
	case "quoted-printable":
		data, err = io.ReadAll(quotedprintable.NewReader(bytes.NewReader(body)))
		if err != nil {
			return nil, true, fmt.Errorf("quoted-printable: %w", err)
		}
		return data, true, nil
	}
	return nil, false, fmt.Errorf("unknown transfer encoding %s", quote(encoding))
}

// archive takes a cloud-config-archive apart: a list of texts, or of mappings with content and type.
func (w *walker) archive(p part, depth int) {
	n, problems := parseYAML(p.data, p.at, true)
	w.problems = append(w.problems, problems...)
	if n == nil || len(problems) > 0 {
		return
	}
	if n.kind != sequence {
		w.problem(n.pos, "the archive is "+n.kind.String(), "write a list of texts, or of mappings with type and content")
		return
	}
	for i, item := range n.items {
		content := item
		if item.kind == mapping {
			content = item.get("content")
		}
		if content == nil || content.kind != scalar {
			w.problem(item.pos, fmt.Sprintf("item %d of the archive has no content", i+1), "add content: with the text of the part")
			continue
		}
		data := []byte(content.value)
		if content.tag == "!!binary" {
			decoded, _, err := decodeTransfer(data, "base64")
			if err != nil {
				w.problem(content.pos, err.Error(), "write base64, or text without !!binary")
				continue
			}
			data = decoded
		}
		at := inFile(fmt.Sprintf("%s, item %d", content.pos.File, i+1))
		if !w.fits(data, at, depth+1) {
			return
		}
		w.item(item, data, at, depth+1)
	}
}

// item visits one part of an archive.
func (w *walker) item(item *node, data []byte, at place, depth int) {
	p := part{contentType: cmp.Or(lineKind(data), typeCloudConfig), data: data, at: at, archived: true}
	if t := item.get("type"); t != nil {
		p.contentType = t.value
	}
	if name := item.get("filename"); name != nil {
		p.name = name.value
	}
	w.typed(p, depth)
}
