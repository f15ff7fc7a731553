package paper

import (
	"fmt"
	"image/color"
	"runtime"

	"github.com/boombuler/barcode/qr"
	"golang.org/x/sync/errgroup"
)

// matrix is a QR code: one byte a module, 1 is dark, without the quiet zone.
type matrix struct {
	size    int
	modules []byte
}

// draw makes the QR code of a text in alphanumeric mode with error correction of level M, which makes up for 15 % of it.
func draw(text string) (*matrix, error) {
	code, err := qr.Encode(text, qr.M, qr.AlphaNumeric)
	if err != nil {
		return nil, fmt.Errorf("QR code: %w", err)
	}
	m := &matrix{size: code.Bounds().Dx()}
	for y := range m.size {
		for x := range m.size {
			var dark byte
			if g := color.GrayModel.Convert(code.At(x, y)).(color.Gray); g.Y < 0x80 {
				dark = 1
			}
			m.modules = append(m.modules, dark)
		}
	}
	return m, nil
}

// drawAll makes the QR codes of all codes, on all cores: one takes about 20 ms.
func drawAll(codes []Code) ([]*matrix, error) {
	drawn := make([]*matrix, len(codes))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, c := range codes {
		group.Go(func() (err error) {
			drawn[i], err = draw(c.Text)
			return err
		})
	}
	return drawn, group.Wait()
}

// bits packs the code into rows of whole bytes as PDF's images of 1 bit a pixel want them, 0 for dark.
func (m *matrix) bits() []byte {
	stride := (m.size + 7) / 8
	out := make([]byte, stride*m.size)
	for i := range out {
		out[i] = 0xff
	}
	for i, dark := range m.modules {
		x, y := i%m.size, i/m.size
		out[y*stride+x/8] &^= dark << (7 - x%8)
	}
	return out
}
