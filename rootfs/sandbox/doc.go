// Package sandbox runs programs inside a tree of files, apart from the host:
// maintainer scripts in the tree that is being configured, mkfs and its kin
// out of a tools tree, functions of this program that need a tree's ids.
//
// A sandbox has user, mount, pid, ipc, uts, cgroup and, unless told otherwise,
// network namespaces of its own (namespaces(7)). Nothing of the host can be
// seen in it but what is bound, nothing can be written but the tree and what
// is bound for writing, and when Run returns no process of it is alive and
// nothing of it is mounted. It takes Linux 5.15 or later: mounts are made with
// the calls of fsopen(2), open_tree(2), move_mount(2) and mount_setattr(2).
//
// It is no defence against faults of the kernel, sets no limits on memory,
// disk or processor, and filters no system calls.
//
// # How it works
//
// The program starts itself twice (Main takes over in the children):
//
//   - The outer child is pid 1 of the sandbox's pid namespace. It has the
//     caller's permissions on paths, joins the mounts to one tree, makes that
//     tree its root and drops the host's. For an ordinary user it lives in a
//     user namespace where 0 is the caller and 1 to 65536 are the caller's
//     subordinate ids (subuid(5), newuidmap(1)); for root in the host's.
//   - The inner child lives in a user namespace below, where 0 to 65535 are
//     those subordinate ids (or 0 alone is the caller, see IDs), so it can
//     neither touch the outer child nor undo any of its mounts. It becomes the
//     program, or calls the function.
//
// So what a tree's programs write belongs to ids that nobody on the host has.
//
// Outer and caller are joined by a socket. When the caller dies, by whatever
// signal, the outer child reads its end and ends the pid namespace.
package sandbox
