// Package xz reads .xz files, quickly and with the memory of the file before.
//
// It is for the members of Debian packages, archive indexes and kernel
// modules, whose decompression is the longest part of a cold build. It does
// not write, does not seek, and knows no filter but LZMA2: what dpkg, the
// archives and kbuild write is all within that.
//
// The format is The .xz File Format 1.2 (https://tukaani.org/xz/xz-file-format.txt):
// streams one after the other with padding between them, any number of
// blocks, and the checks none, CRC32, CRC64 and SHA-256, all verified, as are
// header checksums, index and footer. LZMA2 and LZMA have no document of
// their own but the LZMA specification of the LZMA SDK and the two public
// decoders, XZ Utils and XZ Embedded, whose behaviour is followed; where they
// differ, the stricter one's.
//
// Input is taken to be hostile: no size that a file claims is allocated
// before as many bytes came out, and never more than the largest dictionary
// allowed and half of it again.
package xz
