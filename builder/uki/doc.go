// Package uki puts unified kernel images together and takes them apart.
//
// A unified kernel image (UKI, UAPI.5) is a PE32+ executable: systemd's EFI
// stub followed by sections that hold the kernel, its initrd, the command line
// and further data. The layout is that of systemd's ukify 257: the stub's
// sections stay, the added ones follow in ukify's order, and the stub's .sbat
// is replaced by one merged from the stub's, the kernel's and the image's own
// lines. The PE format is Microsoft's "PE Format" (revision 11); only PE32+ for
// x86-64 and AArch64 is read and written.
//
// Writing starts from a [UKI], reading from [Read]. [PCR11] gives the values
// that a TPM will hold after systemd's stub has measured an image, and
// [Authenticode] the digest that Secure Boot signatures and PCR 4 are about.
//
// The package does not sign, knows no recipe, and runs no program.
package uki
