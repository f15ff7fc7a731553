package vm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
)

const (
	// maxLine bounds a line of the report and of the console, in bytes: the
	// rest of a longer one is dropped.
	maxLine = 16 << 10
	// maxLines bounds the report; what follows is dropped.
	maxLines = 100_000

	// reportEnd is the report's last line.
	reportEnd = "done"
)

// cutReport takes a line key=value apart.
func cutReport(line string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(line, "=")
	return key, value, ok && key != "" && !strings.ContainsAny(key, " \t")
}

// readLines sends each line that r has, at most maxLines of maxLine bytes, until
// r ends.
func readLines(r io.Reader, since func() time.Duration, to chan<- Line) {
	defer close(to)
	b := bufio.NewReaderSize(r, maxLine)
	for n := 0; ; {
		line, err := b.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && len(line) == 0 {
			return
		}
		if n++; n <= maxLines {
			to <- Line{After: since(), Text: string(bytes.TrimRight(line, "\r\n"))}
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = b.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}
