"""The system calls that FFmpeg may not make, as a seccomp filter. Pure.

A deny list, since FFmpeg's libraries use other calls each year and an allow list would break. It has the
calls that reach beyond the process: other processes, the network, mounts, keys, the clock, the kernel itself.
Numbers: Linux's `asm/unistd_64.h` (x86-64) and `asm-generic/unistd.h` (ARM), read 2026-11-21.
"""

from __future__ import annotations

import struct
from errno import ENOSYS, EPERM

# (x86-64, ARM); None where the architecture has no such call
DENIED: dict[str, tuple[int, int | None]] = {
    # other processes, and new ones: threads come from `clone`, which `_deny_new_processes` looks into
    "fork": (57, None),
    "vfork": (58, None),
    "execveat": (322, 281),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    # the network, and calls that could open a socket without this filter
    "socket": (41, 198),
    "socketpair": (53, 199),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    # mounts, namespaces, files by handle
    "chroot": (161, 51),
    "fanotify_init": (300, 262),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "pivot_root": (155, 41),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "setns": (308, 268),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "umount2": (166, 39),
    "unshare": (272, 97),
    # calls that make other things than plain files, or links: the runner reads the files afterwards
    "chmod": (90, None),
    "chown": (92, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fsetxattr": (190, 7),
    "lchown": (94, None),
    "link": (86, None),
    "linkat": (265, 37),
    "lsetxattr": (189, 6),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    # memory shared with others, keys
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "request_key": (249, 218),
    "semget": (64, 190),
    "shmget": (29, 194),
    # the kernel, and the calls that exploits of it begin with
    "acct": (163, 89),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "reboot": (169, 142),
    "set_mempolicy": (238, 237),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "syslog": (103, 116),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}
CLONE: tuple[int, int] = (56, 220)
CLONE3 = 435
CLONE_THREAD = 0x10000

_AUDIT_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, linux/audit.h
_X32_BIT = 0x40000000  # the same calls by other numbers
_AT_NUMBER, _AT_ARCH, _AT_FIRST_ARGUMENT = 0, 4, 16  # struct seccomp_data
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000  # SECCOMP_RET_*


def filter_for(machine: str) -> bytes:
    """Return the filter (an array of `struct sock_filter`) for `os.uname().machine`.

    A denied call fails with EPERM. Raises KeyError for an architecture whose numbers are not known here.
    """
    column, audit_arch = _AUDIT_ARCH[machine]
    program = [
        _op(_LOAD, _AT_ARCH),
        *_unless(_IF_EQUAL, audit_arch, _ERROR | EPERM),
        _op(_LOAD, _AT_NUMBER),
        *_when(_IF_AT_LEAST, _X32_BIT, _ERROR | EPERM),
        *_when(
            _IF_EQUAL, CLONE3, _ERROR | ENOSYS
        ),  # a filter cannot see its flags; libc falls back to `clone`
    ]
    for call in DENIED.values():
        if (number := call[column]) is not None:
            program += _when(_IF_EQUAL, number, _ERROR | EPERM)
    program += _deny_new_processes(CLONE[column])
    return b"".join([*program, _op(_RETURN, _ALLOW)])


def _deny_new_processes(clone: int) -> list[bytes]:
    """Let `clone` make threads only."""
    return [
        _op(_IF_EQUAL, clone, when_false=3),
        _op(_LOAD, _AT_FIRST_ARGUMENT),
        *_unless(_IF_ANY_BIT, CLONE_THREAD, _ERROR | EPERM),
    ]


def _when(test: int, value: int, verdict: int) -> list[bytes]:
    return [_op(test, value, when_false=1), _op(_RETURN, verdict)]


def _unless(test: int, value: int, verdict: int) -> list[bytes]:
    return [_op(test, value, when_true=1), _op(_RETURN, verdict)]


def _op(code: int, value: int, *, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
