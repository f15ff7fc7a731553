package uki

import (
	"crypto/sha256"
	"strings"
)

// measured lists the sections that systemd's stub extends PCR 11 with, in its
// order (systemd, src/fundamental/uki.h). .pcrsig is left out there because it
// is made from the result.
func measured() []string {
	return []string{
		".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
		".pcrpkey", ".profile", ".dtbauto", ".hwids",
	}
}

// Phases returns the boot phases that systemd-measure calculates by default,
// each as the words that were measured until then, with a colon between them.
func Phases() []string {
	return []string{
		"enter-initrd",
		"enter-initrd:leave-initrd",
		"enter-initrd:leave-initrd:sysinit",
		"enter-initrd:leave-initrd:sysinit:ready",
	}
}

// A PhaseValue is the value of PCR 11 in a phase of the boot.
type PhaseValue struct {
	Phase  string
	SHA256 [sha256.Size]byte
}

// PCR11 returns the values of PCR 11's SHA-256 bank that a machine has in the
// phases given (see [Phases]; "" is the one before any) when it booted an image
// of these sections: [File].Sections, or those of [File.Profile]. Of sections of
// one name the first counts.
func PCR11(sections []Section, phases []string) ([]PhaseValue, error) {
	var pcr [sha256.Size]byte
	for _, name := range measured() {
		s, err := (&File{Sections: sections}).Section(name)
		if err != nil {
			continue
		}
		if s.VirtualSize != uint32(s.Size) {
			return nil, formatError("section %s has %d bytes in memory and %d in the file", name, s.VirtualSize, s.Size)
		}
		extend(&pcr, sha256.Sum256(append([]byte(name), 0)))
		sum, err := s.SHA256()
		if err != nil {
			return nil, err
		}
		extend(&pcr, sum)
	}

	values := make([]PhaseValue, 0, len(phases))
	for _, phase := range phases {
		v := PhaseValue{Phase: phase, SHA256: pcr}
		for word := range strings.SplitSeq(phase, ":") {
			if phase != "" {
				extend(&v.SHA256, sha256.Sum256([]byte(word)))
			}
		}
		values = append(values, v)
	}
	return values, nil
}

// extend does what TPM2_PCR_Extend does to one bank.
func extend(pcr *[sha256.Size]byte, digest [sha256.Size]byte) {
	*pcr = sha256.Sum256(append(pcr[:], digest[:]...))
}
