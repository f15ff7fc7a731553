package disk

import (
	"fmt"
	"strings"
)

// Partition types (Discoverable Partitions Specification, "Defined Partition
// Type UUIDs").
const (
	TypeESP   = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	TypeXBOOT = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
	TypeLinux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	TypeSwap  = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
	TypeHome  = "933ac7e1-2eb4-4f13-b844-0e14e2aef915"
	TypeSrv   = "3b8f8425-20e0-4f3b-907f-1a25a76f98e8"
	TypeVar   = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
	TypeTmp   = "7ec6f557-3bc5-4aca-b293-16ef5df639d1"

	TypeRootAMD64      = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	TypeVerityAMD64    = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"
	TypeVeritySigAMD64 = "41092b05-9fc8-4523-994f-2def0408b176"
	TypeRootARM64      = "b921b045-1df0-41c3-af44-4c6f280d3fae"
	TypeVerityARM64    = "df3300ce-d69f-4c92-978c-9bfb0f38d820"
	TypeVeritySigARM64 = "6db69de6-29f4-4758-a7a5-962190f00ce3"
)

// Partition attributes: bits of the GPT entry (Discoverable Partitions
// Specification, "Partition Flags").
const (
	AttrGrowFS   = 1 << 59 // the file system is grown to the partition at its mount
	AttrReadOnly = 1 << 60
	AttrNoAuto   = 1 << 63 // not mounted by itself
)

// RootTypes are the types of a root file system's partitions.
type RootTypes struct {
	Root, Verity, VeritySig string
}

// TypesFor returns the types of an architecture, named as Debian names it.
func TypesFor(arch string) (RootTypes, error) {
	switch arch {
	case "amd64":
		return RootTypes{TypeRootAMD64, TypeVerityAMD64, TypeVeritySigAMD64}, nil
	case "arm64":
		return RootTypes{TypeRootARM64, TypeVerityARM64, TypeVeritySigARM64}, nil
	}
	return RootTypes{}, fmt.Errorf("architecture %q has no root partition types here; amd64 and arm64 have", arch)
}

// TypeName returns systemd's name of a partition type, or the GUID itself.
func TypeName(guid string) string {
	switch strings.ToLower(guid) {
	case TypeESP:
		return "esp"
	case TypeXBOOT:
		return "xbootldr"
	case TypeLinux:
		return "linux-generic"
	case TypeSwap:
		return "swap"
	case TypeHome:
		return "home"
	case TypeSrv:
		return "srv"
	case TypeVar:
		return "var"
	case TypeTmp:
		return "tmp"
	case TypeRootAMD64:
		return "root-x86-64"
	case TypeVerityAMD64:
		return "root-x86-64-verity"
	case TypeVeritySigAMD64:
		return "root-x86-64-verity-sig"
	case TypeRootARM64:
		return "root-arm64"
	case TypeVerityARM64:
		return "root-arm64-verity"
	case TypeVeritySigARM64:
		return "root-arm64-verity-sig"
	}
	return guid
}
