package fs

import "golang.org/x/sys/unix"

func llistxattr(path string, b []byte) (int, error)      { return unix.Llistxattr(path, b) }
func lgetxattr(path, name string, b []byte) (int, error) { return unix.Lgetxattr(path, name, b) }
