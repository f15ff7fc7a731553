package userdata

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

	"github.com/applbuild/applbuild/cidata/document"
)

// Bounds on what user-data may unfold to.
const (
	maxParts     = 1000
	maxUnfolded  = 128 << 20 // bytes of all parts
	maxPartDepth = 8
)

// A Part is one thing in user-data that cloud-init gives to a handler.
type Part struct {
	Name     string // as the message names it, empty where it does not
	Type     string // as cloud-init takes it
	Data     []byte
	At       document.Place
	Archived bool // an item of an archive
}

// A walker takes user-data apart as cloud-init's UserDataProcessor does, without fetching anything.
type walker struct {
	visit    func(Part)
	parts    int
	unfolded int
	full     bool // a bound was met: nothing more is looked at
	problems document.Errors
}

func (w *walker) problem(pos document.Position, what, do string) {
	w.problems = append(w.problems, &document.Error{Position: pos, What: what, Do: do})
}

// Walk takes user-data apart and calls visit for each part of it, in cloud-init's order. It returns why it could not
// look at all of it; where a bound was met the error matches [document.ErrTooLarge].
func Walk(data []byte, at document.Place, visit func(Part)) document.Errors {
	w := &walker{visit: visit}
	w.whole(data, "", at, 0)
	return w.problems
}

// whole takes data without a content type apart.
func (w *walker) whole(data []byte, name string, at document.Place, depth int) {
	if !w.fits(data, at, depth) {
		return
	}
	if IsGzip(data) {
		w.gunzip(data, at, func(data []byte, at document.Place) { w.whole(data, name, at, depth+1) })
		return
	}
	if isMessage(data) {
		w.message(data, at, depth)
		return
	}
	w.typed(Part{Name: name, Type: TypeOf(data), Data: data, At: at}, depth)
}

func (w *walker) fits(data []byte, at document.Place, depth int) bool {
	w.parts++
	w.unfolded += len(data)
	if depth > maxPartDepth || w.parts > maxParts || w.unfolded > maxUnfolded {
		if !w.full {
			w.full = true
			w.problems = append(w.problems, &document.Error{Position: at(1, 1), What: "user-data unfolds to too much", Err: document.ErrTooLarge,
				Do: fmt.Sprintf("stay below %d parts, %d MiB and %d parts within each other", maxParts, maxUnfolded>>20, maxPartDepth)})
		}
		return false
	}
	return true
}

// gunzip hands over what data unfolds to.
func (w *walker) gunzip(data []byte, at document.Place, then func([]byte, document.Place)) {
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
func within(at document.Place, what string) document.Place {
	return document.InFile(at(1, 1).File + ", " + what)
}

func wholeFile(pos document.Position) document.Position {
	if pos.Line == 1 {
		return document.Position{File: pos.File}
	}
	return pos
}

// typed visits a part whose type is known, and takes an archive apart.
func (w *walker) typed(p Part, depth int) {
	w.visit(p)
	if p.Type == Archive {
		w.archive(p, depth)
	}
}

// UnknownType is the problem of a part whose beginning says nothing.
func UnknownType(data []byte, at document.Place) *document.Error {
	line := FirstLine(data)
	do := "begin with " + Beginnings
	what := "first line " + document.Quote(line) + " is none that cloud-init knows"
	switch lower := strings.ToLower(strings.ReplaceAll(line, " ", "")); {
	case len(data) == 0:
		what = "is empty"
	case bytes.HasPrefix(data, []byte("\ufeff")):
		what, do = "begins with a byte order mark, so that cloud-init does not know it", "save it as UTF-8 without one"
	case !utf8.Valid(data):
		what, do = "is no text in UTF-8", "save it as UTF-8, "+do
	case !document.IsText([]byte(line)):
		what = "is binary"
	case strings.HasPrefix(lower, "#cloud-config"), strings.HasPrefix(lower, "#cloudconfig"), strings.HasPrefix(lower, "#cloud_config"):
		do = "write #cloud-config, and nothing else in that line"
	}
	return &document.Error{Position: at(1, 1), What: what, Do: do}
}

// message takes a MIME message apart (RFC 2045, 2046).
func (w *walker) message(data []byte, at document.Place, depth int) {
	header := data
	if bytes.HasPrefix(data, []byte("From ")) { // as in a mailbox
		_, header, _ = bytes.Cut(data, []byte("\n"))
	}
	m, err := mail.ReadMessage(bytes.NewReader(header))
	if kind := TypeOf(data); err != nil && kind != "" {
		// A script that writes mail, for example.
		w.typed(Part{Type: kind, Data: data, At: at}, depth)
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
	w.entity(m.Header.Get, body, at.Below(bytes.Count(data[:offset], []byte("\n"))), depth)
}

// entity takes one part of a message, or the message itself, apart. body is still in its transfer encoding.
func (w *walker) entity(header func(string) string, body []byte, at document.Place, depth int) {
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
		w.problem(at(1, 1), document.OneLine(name)+": "+err.Error(), "make the message again")
		return
	}
	if moved {
		at = within(at, document.OneLine(name))
	}
	if strings.HasPrefix(contentType, "application/") && (strings.Contains(contentType, "gzip") || strings.Contains(contentType, "gunzip") || strings.HasPrefix(contentType, "application/x-compress")) {
		w.gunzip(body, at, func(data []byte, at document.Place) {
			if w.fits(data, at, depth) {
				w.typed(Part{Name: name, Type: TypeOf(data), Data: data, At: at}, depth)
			}
		})
		return
	}
	if !w.fits(body, at, depth) {
		return
	}
	switch contentType {
	case typePlain, "text/x-not-multipart":
		contentType = TypeOf(body)
	case Script:
		if kind := TypeOf(body); kind != "" {
			contentType = kind
		}
	}
	w.typed(Part{Name: name, Type: contentType, Data: body, At: at}, depth)
}

// multipart takes the parts of a message apart.
func (w *walker) multipart(body []byte, boundary string, at document.Place, depth int) {
	if depth >= maxPartDepth {
		w.fits(body, at, maxPartDepth+1)
		return
	}
	if boundary == "" {
		w.problem(at(1, 1), "the message names no boundary", "make the message again")
		return
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	offset, lines, found := 0, 0, false // of body: where the part begins
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
			lines += bytes.Count(body[offset:offset+i+1], []byte("\n"))
			offset += i + 1
		}
		w.entity(p.Header.Get, data, at.Below(lines), depth+1)
		end := min(offset+len(data), len(body))
		lines += bytes.Count(body[offset:end], []byte("\n"))
		offset = end
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
	return nil, false, fmt.Errorf("unknown transfer encoding %s", document.Quote(encoding))
}

// archive takes a cloud-config-archive apart: a list of texts, or of mappings with content and type.
func (w *walker) archive(p Part, depth int) {
	n, problems := document.ParseMerged(p.Data, p.At)
	w.problems = append(w.problems, problems...)
	if n == nil || len(problems) > 0 {
		return
	}
	if n.Kind != document.Sequence {
		w.problem(n.Pos, "the archive is "+n.Kind.String(), "write a list of texts, or of mappings with type and content")
		return
	}
	for i, item := range n.Items {
		content := item
		if item.Kind == document.Mapping {
			content = item.Get("content")
		}
		if content == nil || content.Kind != document.Scalar {
			w.problem(item.Pos, fmt.Sprintf("item %d of the archive has no content", i+1), "add content: with the text of the part")
			continue
		}
		data := []byte(content.Value)
		if content.Tag == "!!binary" {
			decoded, _, err := decodeTransfer(data, "base64")
			if err != nil {
				w.problem(content.Pos, err.Error(), "write base64, or text without !!binary")
				continue
			}
			data = decoded
		}
		at := document.InFile(fmt.Sprintf("%s, item %d", content.Pos.File, i+1))
		if !w.fits(data, at, depth+1) {
			return
		}
		w.item(item, data, at, depth+1)
	}
}

// item visits one part of an archive.
func (w *walker) item(item *document.Node, data []byte, at document.Place, depth int) {
	p := Part{Type: cmp.Or(TypeOf(data), CloudConfig), Data: data, At: at, Archived: true}
	if t := item.Get("type"); t != nil {
		p.Type = t.Value
	}
	if name := item.Get("filename"); name != nil {
		p.Name = name.Value
	}
	w.typed(p, depth)
}
