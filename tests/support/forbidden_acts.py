"""What nobody in the jail may do. Run inside it with nothing but the standard library; prints what happened.

An act that is refused raises OSError; one that returns has been done. Arguments: a JSON object (numbers of
system calls, a process and paths outside, the limits), then the acts to try; without any, all of them.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

GIVEN: dict[str, Any] = {}
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Make a system call. Only EPERM counts as refused: other errors come from a kernel that looked at it."""
    ctypes.set_errno(0)
    result = libc.syscall(GIVEN["calls"][name], *(arguments or (0, 0, 0, 0, 0, 0)))
    if result == -1 and ctypes.get_errno() == errno.EPERM:
        raise PermissionError(name)


def connect_to_the_outside() -> None:
    socket.socket(socket.AF_UNIX).connect(GIVEN["socket"])


def create(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def here() -> int:
    return os.open(".", os.O_RDONLY)


def have_a_capability() -> None:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    if not any(data) and all(libc.prctl(23, number, 0, 0, 0) <= 0 for number in range(64)):
        raise PermissionError("none, and none to come by")


def have_an_environment() -> None:
    if not os.environ:
        raise PermissionError("empty")


def fill_the_memory() -> None:
    mmap.mmap(-1, 2 * GIVEN["memory_bytes"])


def start_threads_without_end() -> None:
    done = threading.Event()
    try:
        for _ in range(GIVEN["threads"] + 10):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError as error:
        raise PermissionError from error
    finally:
        done.set()


def write_without_end() -> None:
    with open("big", "wb") as file:
        file.truncate(2 * GIVEN["file_bytes"])


def open_files_without_end() -> None:
    for _ in range(100_000):
        os.dup(0)


def run_a_program_of_its_own() -> None:
    with open("program", "w+b") as file:
        file.write(bytes(4096))
        file.flush()
        mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)


def be_traced() -> None:
    call("ptrace", 0, 0, 0, 0)


def signal_every_process() -> None:
    os.kill(-1, 0)


def own(path: str) -> None:
    os.chown(path, 0, 0)
    os.chmod(path, 0o4755)
    if not os.stat(path).st_mode & 0o4000 or os.stat(path).st_uid != 0:
        raise PermissionError


def raise_a_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))


ACTS: dict[str, Callable[[], object]] = {
    "open a TCP socket": lambda: socket.socket(),
    "open a TCP socket of IPv6": lambda: socket.socket(socket.AF_INET6),
    "open a UDP socket": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "open a raw socket": lambda: socket.socket(type=socket.SOCK_RAW, proto=1),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "connect to a Unix socket outside": connect_to_the_outside,
    "reach the API of the machine's host": lambda: os.stat("/.fly/api"),
    "read the list of users": lambda: open("/etc/passwd").close(),
    "read the environment of a process outside": lambda: open(f"/proc/{GIVEN['pid']}/environ").close(),
    "list processes": lambda: os.listdir("/proc/1"),
    "read a neighbour's file": lambda: open(GIVEN["neighbour"]).close(),
    "write beside the given folders": lambda: create("/created"),
    "write into a shared folder": lambda: create("/tmp/created"),
    "write over what is given to read": lambda: os.close(os.open(GIVEN["source"], os.O_WRONLY)),
    "delete what is given to read": lambda: os.unlink(GIVEN["source"]),
    "open a disk": lambda: os.close(os.open("/dev/vda", os.O_RDONLY)),
    "open the kernel's memory": lambda: os.close(os.open("/dev/mem", os.O_RDONLY)),
    "make a symbolic link": lambda: os.symlink("/", "symbolic"),
    "give a file a second name": lambda: (create("first"), os.link("first", "second")),
    "give what it reads a second name": lambda: os.link(GIVEN["source"], "second-source"),
    "make a symbolic link from a folder on": lambda: os.symlink("/", "symbolic-at", dir_fd=here()),
    "give a second name from a folder on": lambda: (
        create("third"),
        os.link("third", "fourth", src_dir_fd=here()),
    ),
    "make a pipe from a folder on": lambda: os.mkfifo("pipe-at", dir_fd=here()),
    "make a folder from a folder on": lambda: os.mkdir("folder-at", dir_fd=here()),
    "take the rights from an open file": lambda: os.fchmod(os.open("open", os.O_CREAT), 0),
    "make a pipe": lambda: os.mkfifo("pipe"),
    "make a folder": lambda: os.mkdir("folder"),
    "make a socket that others see": lambda: socket.socket(socket.AF_UNIX).bind("made-socket"),
    "take the rights from a file": lambda: (create("closed"), os.chmod("closed", 0)),
    "let a file run with its owner's rights": lambda: (create("setuid"), os.chmod("setuid", 0o4755)),
    "give a file an attribute": lambda: (create("attributed"), os.setxattr("attributed", "user.a", b"b")),
    "make a device": lambda: os.mknod("device", 0o020666, os.makedev(1, 1)),
    "give a file to root with its rights": lambda: (create("mine"), own("mine")),
    "run a shell": lambda: os.execv("/bin/sh", ["sh"]),
    "run a program that it wrote": run_a_program_of_its_own,
    "start a process": os.fork,
    "start threads without end": start_threads_without_end,
    "fill the memory": fill_the_memory,
    "write without end": write_without_end,
    "open files without end": open_files_without_end,
    "raise a limit": raise_a_limit,
    "be root": lambda: os.setresuid(0, 0, 0),
    "be another user": lambda: os.setresuid(1000, 1000, 1000),
    "change its groups": lambda: os.setgroups([0]),
    "have a capability": have_a_capability,
    "have an environment": have_an_environment,
    "signal a process outside": lambda: os.kill(GIVEN["pid"], 0),
    "signal every process": signal_every_process,
    "trace a process": be_traced,
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "lower its niceness": lambda: os.nice(-5),
}


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except (OSError, ValueError) as error:
        return f"refused: {error}"
    return "done"


if __name__ == "__main__":
    GIVEN = json.loads(sys.argv[1])
    os.chdir(GIVEN["folder"])
    wanted = {name: ACTS[name] for name in sys.argv[2:]} or ACTS
    outcomes = {name: outcome(act) for name, act in wanted.items()}
    outcomes |= {name: outcome(lambda name=name: call(name)) for name in GIVEN["calls"]}  # type: ignore[misc]
    print(json.dumps(outcomes))
