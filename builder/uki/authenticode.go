package uki

import (
	"crypto/sha256"
	"fmt"
	"io"
	"sort"
)

// Authenticode returns the SHA-256 digest of a PE image that Secure Boot's
// signatures are made over and that firmware extends PCR 4 with ("Windows
// Authenticode Portable Executable Signature Format", section "Calculating the
// PE Image Hash"): the headers without the checksum and the directory entry of
// the certificate table, the sections' data by their place in the file, then
// what follows them but the certificate table. A file whose size is no multiple
// of 8 is digested as it is, as firmware does; signing tools pad it first. The
// error for a file that is no sound image wraps [ErrFormat].
func Authenticode(r io.ReaderAt, size int64) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	h, err := parseHeader(r, size)
	if err != nil {
		return sum, err
	}
	if h.optional.NumberOfRvaAndSizes <= directoryCertTable {
		return sum, formatError("no data directory for certificates")
	}
	end := size
	if offset, length := h.certificates(); length > 0 {
		if offset+length != size {
			return sum, formatError("%d bytes follow the certificate table", size-offset-length)
		}
		end = offset
	}

	digest := sha256.New()
	for _, s := range h.digestSpans(end) {
		if _, err := io.Copy(digest, io.NewSectionReader(r, s.offset, s.size)); err != nil {
			return sum, fmt.Errorf("digesting image: %w", err)
		}
	}
	digest.Sum(sum[:0])
	return sum, nil
}

type span struct{ offset, size int64 }

// digestSpans lists the parts of the file before end that Authenticode digests,
// in its order.
func (h *header) digestSpans(end int64) []span {
	checksum := int64(h.optionalOffset() + optionalCheckSum)
	entry := int64(h.optionalOffset() + directoryOffset + directoryCertTable*directorySize)
	headers := int64(h.optional.SizeOfHeaders)
	spans := []span{
		{0, checksum},
		{checksum + 4, entry - checksum - 4},
		{entry + directorySize, headers - entry - directorySize},
	}
	var data []span
	for _, s := range h.sections {
		if s.SizeOfRawData > 0 {
			data = append(data, span{int64(s.PointerToRawData), int64(s.SizeOfRawData)})
		}
	}
	sort.SliceStable(data, func(i, j int) bool { return data[i].offset < data[j].offset })

	sum := headers
	for _, s := range data {
		sum += s.size
	}
	spans = append(spans, data...)
	if sum < end {
		spans = append(spans, span{sum, end - sum})
	}
	return spans
}
