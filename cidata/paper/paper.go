// Package paper prints a seed so that a person can file it: a PDF with the readable text of its files, and QR codes
// (ISO/IEC 18004) that restore its archive bit for bit. Join reads the codes back from the text that a scanner makes of
// them; reading pictures is the scanner's work.
//
// The format of the codes is this project's own, with what codes of a file in pieces need and plain base32 in them has
// not: which archive a code belongs to, how many there are, a checksum of each, a digest of all, and spare codes for
// those that get lost. docs/paper.md tells how to restore without this package.
//
// The package does not know what is in an archive; cidata/seal packs and encrypts it. Output is the same for the same
// input.
package paper

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"
)

// A File is one file of the seed whose text is printed.
type File struct {
	Path string
	Data []byte
}

// A Document is what goes on paper.
type Document struct {
	Name    string // the package's, printed on each page
	Archive []byte // what the codes restore

	// Encrypted names the program that opens the archive: "age" or "gpg". Where it is set, nothing below but the date
	// is printed, so that the paper gives nothing away but Name. Where it is empty the archive is a .tar.gz in clear.
	Encrypted string

	Host       string
	InstanceID string
	ISOSHA256  string // of the ISO made of the files, in hexadecimal; empty for none
	Files      []File

	Date time.Time // printed as a day; zero for none
}

// The page, in points.
const (
	left   = 15 * mm
	right  = pageWidth - 15*mm
	top    = 38 * mm // below the header
	bottom = pageHeight - 11*mm

	bodySize = 8.0
	bodyLead = 9.2
	columns  = 100 // of a file's text

	headingWidth = 64     // characters
	maxLines     = 10_000 // of all files; what is beyond is in the codes only

	module     = 1.32 // of a QR code: 0.466 mm, 11 dots of a printer of 600 to the inch
	quiet      = 4 * module
	perRow     = 3
	perColumn  = 4
	cellWidth  = (right - left) / perRow
	cellHeight = (bottom - top) / perColumn
	labelSize  = 8.0
)

// Write writes the paper as PDF. A [*SizeError] says that the archive is too large for it.
func Write(w io.Writer, d Document) error {
	codes, err := Split(d.Archive)
	if err != nil {
		return err
	}
	p := newPDF("Seed " + d.Name)
	pages := flow(d.lines(codes))
	drawn, err := drawAll(codes)
	if err != nil {
		return err
	}
	for start := 0; start < len(codes); start += perRow * perColumn {
		end := min(start+perRow*perColumn, len(codes))
		c, err := codePage(p, codes[start:end], drawn[start:end])
		if err != nil {
			return err
		}
		pages = append(pages, c)
	}
	for i, c := range pages {
		d.header(c, i+1, len(pages))
		if err := p.page(c); err != nil {
			return err
		}
	}
	return p.write(w)
}

// header says on each page which seed it belongs to and whether it is secret: pages get separated.
func (d Document) header(c *canvas, page, pages int) {
	const size = 11.0
	c.spans(monoBold, size, left, 12*mm, wrap(spans(d.Name), 60)[0])
	count := fmt.Sprintf("page %d of %d", page, pages)
	c.text(mono, 9, right-float64(len(count))*9*monoWidth, 12*mm, []byte(count))
	c.text(mono, bodySize, left, 17*mm, []byte(fmt.Sprintf("SHA-256 %x", sha256.Sum256(d.Archive))))
	if !d.Date.IsZero() {
		date := d.Date.UTC().Format(time.DateOnly)
		c.text(mono, bodySize, right-float64(len(date))*bodySize*monoWidth, 17*mm, []byte(date))
	}
	if d.Encrypted == "" {
		var about []string
		if d.Host != "" {
			about = append(about, "host "+d.Host)
		}
		if d.InstanceID != "" {
			about = append(about, "instance-id "+d.InstanceID)
		}
		for i, part := range about {
			text := wrap(spans(part), columns)[0]
			c.spans(mono, bodySize, left, (21+4*float64(i))*mm, text)
		}
		c.text(sansBold, 9, left, 30*mm, []byte("SECRET: this paper holds the seed in clear, keys and password hashes in it too. Lock it away."))
	} else {
		c.text(sansBold, 9, left, 30*mm, []byte("The codes hold an archive encrypted for "+d.Encrypted+". Nobody reads it without the secret key: keep that elsewhere."))
	}
	c.rule(left, right, 32*mm)
}

// codePage draws codes in a grid, each with its number above it.
func codePage(p *pdf, codes []Code, drawn []*matrix) (*canvas, error) {
	c := &canvas{}
	for i, code := range codes {
		x := left + float64(i%perRow)*cellWidth
		y := top + float64(i/perRow)*cellHeight
		image, err := p.image(drawn[i])
		if err != nil {
			return nil, err
		}
		c.text(sansBold, labelSize, x+quiet, y, []byte(code.label()))
		c.image(image, x+quiet, y+quiet, float64(drawn[i].size)*module)
	}
	return c, nil
}

func (c Code) label() string {
	if c.Spare {
		return fmt.Sprintf("spare %d of %d", c.Number, spares(c.Total))
	}
	return fmt.Sprintf("code %d of %d", c.Number, c.Total)
}

// spans sets a line whose pieces differ in weight, in Courier.
func (c *canvas) spans(f font, size, x, y float64, line []span) {
	for _, s := range line {
		weight := f
		if s.bold {
			weight = monoBold
		}
		c.text(weight, size, x, y, s.text)
		x += float64(len(s.text)) * size * monoWidth
	}
}

// line is one line of the text pages.
type line struct {
	font font
	size float64
	lead float64 // from the line before, in points
	text []span
	keep float64 // points that must be left below it on the page
}

// flow sets lines on as many pages as they need.
func flow(lines []line) []*canvas {
	pages := []*canvas{{}}
	y := top
	for _, l := range lines {
		if y+l.lead+l.keep > bottom && y > top {
			pages, y = append(pages, &canvas{}), top
		}
		y += l.lead
		c := pages[len(pages)-1]
		if l.font == mono {
			c.spans(l.font, l.size, left, y, l.text)
			continue
		}
		for _, s := range l.text {
			c.text(l.font, l.size, left, y, s.text)
		}
	}
	return pages
}

func heading(text string) line {
	ansi := winAnsi(text)
	if len(ansi) > headingWidth {
		ansi = append(ansi[:headingWidth-3:headingWidth-3], "..."...)
	}
	return line{font: sansBold, size: 11, lead: 20, text: []span{{ansi, true}}, keep: 4 * bodyLead}
}

// prose are lines of the program's own words.
func prose(text ...string) []line {
	var out []line
	for i, t := range text {
		l := line{font: sans, size: 9, lead: 11.5, text: []span{{winAnsi(t), false}}}
		if i == 0 {
			l.lead = 14
		}
		out = append(out, l)
	}
	return out
}

// verbatim are lines in Courier, wrapped where they are too long.
func verbatim(text string) []line {
	var out []line
	for i, part := range wrap(spans(text), columns) {
		if i > 0 {
			part = append([]span{{[]byte("    "), true}}, part...)
		}
		out = append(out, line{font: mono, size: bodySize, lead: bodyLead, text: part})
	}
	return out
}

// lines is all text of the paper but headers and codes.
func (d Document) lines(codes []Code) []line {
	total := codes[0].Total
	count := plural(total, "code") + " and " + plural(len(codes)-total, "spare one")
	out := []line{heading("What this is")}
	if d.Encrypted != "" {
		out = append(out, prose(
			"The seed of a machine: the files that cloud-init configures it by at first boot, encrypted. The last pages hold",
			count+", which restore the archive bit for bit.")...)
		return append(out, d.recipe()...)
	}
	out = append(out, prose(
		"The seed of a machine: the files that cloud-init configures it by at first boot (datasource NoCloud). Their text follows,",
		"for reading; the last pages hold "+count+", which restore them bit for bit.",
		"In bold: » a tab, \\u{…} a character that is not in the font, \\x{…} a byte that is no text.")...)
	out = append(out, d.recipe()...)
	out = append(out, heading("Files"))
	for _, f := range d.Files {
		out = append(out, verbatim(fmt.Sprintf("%x  %s", sha256.Sum256(f.Data), f.Path))...)
	}
	if d.ISOSHA256 != "" {
		out = append(out, verbatim(d.ISOSHA256+"  "+d.Name+".iso")...)
	}
	room := maxLines
	for _, f := range d.Files {
		text := f.lines(room)
		room -= len(text)
		out = append(out, text...)
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// lines is a file's text with the numbers of its lines, about as many as there is room for.
func (f File) lines(room int) []line {
	out := []line{heading(f.Path)}
	switch {
	case len(f.Data) == 0:
		return append(out, prose("An empty file.")...)
	case !isText(f.Data):
		return append(out, prose(fmt.Sprintf("%d bytes that are no text: in the codes only.", len(f.Data)))...)
	}
	number := 0
	for t := range strings.Lines(string(f.Data)) {
		number++
		for i, part := range wrap(spans(strings.TrimSuffix(t, "\n")), columns) {
			if len(out) > room {
				return append(out, prose(fmt.Sprintf("From line %d on it is in the codes only.", number))...)
			}
			gutter := []byte("     ")
			if i == 0 {
				gutter = fmt.Appendf(nil, "%4d ", number)
			}
			out = append(out, line{font: mono, size: bodySize, lead: bodyLead, text: append([]span{{gutter, false}}, part...)})
		}
	}
	if !bytes.HasSuffix(f.Data, []byte("\n")) {
		out = append(out, prose("The last line has no line break.")...)
	}
	return out
}

// recipe tells how to restore, with applbuild and without: in ten years the paper may be all there is.
func (d Document) recipe() []line {
	out := []line{heading("To restore")}
	out = append(out, prose("Scan the pages with codes, 300 dots to the inch or more, into pictures. With applbuild, in a folder of its own:")...)
	open, shell := "", "tar -xzf seed.tar.gz -C seed"
	name := "seed.tar.gz"
	switch d.Encrypted {
	case "age":
		open, name, shell = " --identity KEY.txt", "seed.tar.gz.age", "age -d -i KEY.txt seed.tar.gz.age | tar -xz -C seed"
	case "gpg":
		open, name, shell = " --openpgp-secret-key KEY.asc", "seed.tar.gz.gpg", "gpg -d seed.tar.gz.gpg | tar -xz -C seed"
	}
	out = append(out, verbatim("")...)
	out = append(out, verbatim("zbarimg -q --raw -Sdisable -Sqrcode.enable *.png >codes.txt")...)
	out = append(out, verbatim("applbuild cidata restore codes.txt"+open+" -o seed.iso")...)
	out = append(out, prose("Without, by zbar, coreutils, tar and genisoimage; the digest must be the SHA-256 above:")...)
	out = append(out, verbatim("")...)
	for _, l := range []string{
		"zbarimg -q --raw -Sdisable -Sqrcode.enable *.png >codes.txt",
		"grep -v ':S[0-9]*/' codes.txt | sort -t: -k3,3n -u | cut -d: -f5 | tr -d '\\n' | tr - = |",
		"    base32 -d >" + name,
		"sha256sum " + name,
		"mkdir seed && " + shell,
		"genisoimage -quiet -V cidata -J -r -o seed.iso seed",
	} {
		out = append(out, verbatim(l)...)
	}
	return append(out, prose(
		"A code's text is APPLSEED1 : SHA-256 of the archive : number / codes : bytes of the archive : base32, - for = : CRC-32",
		fmt.Sprintf("of all before. Spare code S n is the XOR of the codes n, n + step, n + 2 step ... where step is 1/%d of the codes, rounded up.", perSpare))...)
}
