package paper

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// pdf writes the subset of PDF 1.4 (ISO 32000-1) that paper needs: pages of text in standard Type 1 fonts with
// WinAnsiEncoding (annex D.2), and images of 1 bit a pixel. There is no date, no identifier and nothing else in it that
// the input does not give.
type pdf struct {
	objects [][]byte // number 1 first
	pages   []int
}

// font is a standard Type 1 font (ISO 32000-1, 9.6.2.2).
type font int

const (
	sans font = iota
	sansBold
	mono
	monoBold
)

var fontNames = [...]string{sans: "Helvetica", sansBold: "Helvetica-Bold", mono: "Courier", monoBold: "Courier-Bold"}

// A4 in points of 1/72 inch, and a millimetre in them.
const (
	pageWidth  = 595.28
	pageHeight = 841.89
	mm         = 72 / 25.4

	monoWidth = 0.6 // of a character of Courier, in the font's size
)

// Objects with fixed numbers; the fonts follow.
const (
	catalogObject = 1 + iota
	pagesObject
	infoObject
	firstFont
)

func newPDF(title string) *pdf {
	p := &pdf{objects: make([][]byte, firstFont-1)}
	p.objects[catalogObject-1] = fmt.Appendf(nil, "<</Type/Catalog/Pages %d 0 R>>", pagesObject)
	p.objects[infoObject-1] = fmt.Appendf(nil, "<</Title(%s)/Producer(applbuild)>>", escape(winAnsi(title)))
	for _, name := range fontNames {
		p.add(fmt.Appendf(nil, "<</Type/Font/Subtype/Type1/BaseFont/%s/Encoding/WinAnsiEncoding>>", name))
	}
	return p
}

func (p *pdf) add(object []byte) (number int) {
	p.objects = append(p.objects, object)
	return len(p.objects)
}

// stream adds data, deflated, with these entries in its dictionary.
func (p *pdf) stream(entries string, data []byte) (int, error) {
	var z bytes.Buffer
	w, err := zlib.NewWriterLevel(&z, zlib.BestCompression)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(data); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	object := fmt.Appendf(nil, "<<%s/Filter/FlateDecode/Length %d>>\nstream\n", entries, z.Len())
	return p.add(append(append(object, z.Bytes()...), "\nendstream"...)), nil
}

// image adds a code as an image.
func (p *pdf) image(m *matrix) (int, error) {
	return p.stream(fmt.Sprintf("/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 1", m.size, m.size), m.bits())
}

// page adds what a canvas holds as the next page.
func (p *pdf) page(c *canvas) error {
	content, err := p.stream("", c.ops.Bytes())
	if err != nil {
		return err
	}
	var res strings.Builder
	res.WriteString("/Font<<")
	for i := range fontNames {
		fmt.Fprintf(&res, "/F%d %d 0 R", i, firstFont+i)
	}
	res.WriteString(">>/XObject<<")
	for _, image := range c.images {
		fmt.Fprintf(&res, "/I%d %d 0 R", image, image)
	}
	res.WriteString(">>")
	p.pages = append(p.pages, p.add(fmt.Appendf(nil, "<</Type/Page/Parent %d 0 R/MediaBox[0 0 %s %s]/Resources<<%s>>/Contents %d 0 R>>",
		pagesObject, number(pageWidth), number(pageHeight), res.String(), content)))
	return nil
}

// write writes the whole file: header, objects, table of their offsets, trailer (ISO 32000-1, 7.5).
func (p *pdf) write(w io.Writer) error {
	if len(p.pages) == 0 {
		return errors.New("a PDF needs a page")
	}
	var kids strings.Builder
	for _, page := range p.pages {
		fmt.Fprintf(&kids, "%d 0 R ", page)
	}
	p.objects[pagesObject-1] = fmt.Appendf(nil, "<</Type/Pages/Count %d/Kids[%s]>>", len(p.pages), strings.TrimSpace(kids.String()))
	var out bytes.Buffer
	// Four bytes above 127 tell programs that move files that this one is binary.
	out.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
	table := fmt.Appendf(nil, "xref\n0 %d\n0000000000 65535 f \n", len(p.objects)+1)
	for i, object := range p.objects {
		table = fmt.Appendf(table, "%010d 00000 n \n", out.Len())
		fmt.Fprintf(&out, "%d 0 obj\n%s\nendobj\n", i+1, object)
	}
	start := out.Len()
	out.Write(table)
	fmt.Fprintf(&out, "trailer\n<</Size %d/Root %d 0 R/Info %d 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(p.objects)+1, catalogObject, infoObject, start)
	_, err := w.Write(out.Bytes())
	return err
}

// canvas collects the operators that draw a page (ISO 32000-1, annex A). x counts from the left, y from the top, both
// in points.
type canvas struct {
	ops    bytes.Buffer
	images []int
}

// text sets a line with its baseline at y. ansi is in WinAnsiEncoding.
func (c *canvas) text(f font, size, x, y float64, ansi []byte) {
	fmt.Fprintf(&c.ops, "BT/F%d %s Tf %s %s Td(%s)Tj ET\n", f, number(size), number(x), number(pageHeight-y), escape(ansi))
}

// rule draws a thin line across.
func (c *canvas) rule(x1, x2, y float64) {
	fmt.Fprintf(&c.ops, "0.5 w %s %s m %s %s l S\n", number(x1), number(pageHeight-y), number(x2), number(pageHeight-y))
}

// image draws an image with its upper left corner at x, y.
func (c *canvas) image(object int, x, y, size float64) {
	c.images = append(c.images, object)
	fmt.Fprintf(&c.ops, "q %s 0 0 %s %s %s cm/I%d Do Q\n", number(size), number(size), number(x), number(pageHeight-y-size), object)
}

func number(v float64) string {
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// escape writes bytes as a literal string of PDF without its parentheses (ISO 32000-1, 7.3.4.2).
func escape(text []byte) string {
	var b strings.Builder
	for _, c := range text {
		switch {
		case c == '(' || c == ')' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
