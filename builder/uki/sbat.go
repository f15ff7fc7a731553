package uki

import (
	"fmt"
	"strings"
)

// The first line of every .sbat section, and the line that names UKIs made by
// whichever tool (shim, SBAT.md; systemd's ukify writes the same two).
const (
	sbatHeader  = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md"
	sbatDefault = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/"
)

// mergeSBAT joins revocation lines into one section: the header once, then the
// lines of the stub, of the kernel and of the image itself.
func mergeSBAT(stub, kernel, own string) (string, error) {
	if own == "" {
		own = sbatDefault
	}
	var b strings.Builder
	b.WriteString(sbatHeader + "\n")
	for _, text := range []string{stub, kernel, own} {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "sbat,") {
				continue
			}
			if strings.Count(line, ",") < 2 || strings.ContainsRune(line, 0) {
				return "", fmt.Errorf("SBAT line %q: want component,generation,vendor,package,version,URL", line)
			}
			b.WriteString(line + "\n")
		}
	}
	b.WriteByte(0)
	return b.String(), nil
}
