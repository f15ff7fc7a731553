package sandbox

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, and the results of a filter (seccomp(2),
// linux/seccomp.h).
const (
	seccompDataNumber = 0
	seccompDataArch   = 4

	seccompSetModeFilter = 1
	seccompFilterTSync   = 1
	seccompReturnAllow   = 0x7fff0000
	seccompReturnErrno   = 0x00050000 // with the error number in the low 16 bits
)

// syncCalls are the system calls that wait for the disk.
var syncCalls = [...]uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE}

// skipSyncs lets the system calls that wait for the disk succeed at once, in
// this process and all that come of it. It only saves time: where the kernel
// takes no filter they do what they always do.
func skipSyncs() {
	arch, known := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !known {
		return
	}
	filter := syncFilter(arch)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, seccompFilterTSync, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
}

// syncFilter is the program of the filter, in the language of bpf(4).
func syncFilter(arch uint32) []unix.SockFilter {
	n := uint8(len(syncCalls))
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: seccompDataArch},
		// A call in another architecture's convention has other numbers.
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jf: n + 1},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: seccompDataNumber},
	}
	for i, number := range syncCalls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jt: n - uint8(i)})
	}
	return append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnAllow},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnErrno},
	)
}
