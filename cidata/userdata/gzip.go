package userdata

import (
	"bytes"
	"compress/gzip"
)

var gzipMagic = []byte{0x1f, 0x8b, 0x08}

// IsGzip reports whether data begins as a gzip file does (RFC 1952, section 2.3.1).
func IsGzip(data []byte) bool { return bytes.HasPrefix(data, gzipMagic) }

// Gzip packs data, without a date, so that the same data gives the same bytes. What is gzip'ed already is returned as it is.
func Gzip(data []byte) ([]byte, error) {
	if IsGzip(data) {
		return data, nil
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
