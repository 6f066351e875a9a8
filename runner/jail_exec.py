"""Builds the jail and becomes FFmpeg in it. For speed `runner.jail` starts this file alone: `python -I -S`.

Must never run the command unless every part of the jail is complete: any error ends this process with FAILED
and a line that begins with `jail: `. Must import almost nothing, since inside nothing can be imported.

One process stays outside and waits, since the first process of a new process namespace needs a parent. If it
or the runner ends, the kernel kills FFmpeg. Options are pairs before `--`, the command comes after: `--parent
PID`, `--seccomp HEX`, `--limit NAME=N`, `--need PATH`, `--read PATH`, `--write PATH`. Only the paths of
`--need` may be links: an FFmpeg may have written in the folders of the others.

Several commands are a line. `--words N` for each says how many words of the command line it has. `--pipes N`
for each but the last says how many pipes lead to the next. Pipes are numbered from descriptor 3 on, at both
ends. The first command that fails ends all of them, and the jail ends like it.

One file, since a process in the jail can import nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

FAILED = 125  # no exit code of FFmpeg
NOBODY = 65534

_NEW_MOUNTS, _NEW_UTS, _NEW_IPC = 0x20000, 0x4000000, 0x8000000
_NEW_USERS, _NEW_PROCESSES, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_EXEC = 1, 2, 4, 8  # MS_*, and ST_* of statvfs
_KEPT_FLAGS = _READ_ONLY | _NO_SETUID | _NO_DEVICES | _NO_EXEC
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
_DETACH = 2
_KIND, _A_FILE, _A_FOLDER = 0o170000, 0o100000, 0o040000  # S_IFMT, S_IFREG, S_IFDIR: `stat` is not imported
_SET_PARENT_DEATH_SIGNAL, _DROP_BOUNDING, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 24, 22, 38  # prctl
_CLEAR_AMBIENT = (47, 4)
_SECCOMP_FILTER = 2
_SIGKILL = 9  # the signal module takes as long to import as all the rest
_SIGNALLED = 128  # and the signal: how the first process of a line says it; FFmpeg has no such codes
_FIRST_PIPE, _PIPES_ASIDE = 3, 100
_ROOT = "/proc"  # gets an empty file system: each Linux has this folder, and it holds no videos

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    pairs = list(zip(arguments[:split:2], arguments[1:split:2], strict=True))
    options: dict[str, list[str]] = {}
    for name, value in pairs:
        options.setdefault(name.removeprefix("--"), []).append(value)
    _die_with_parent()
    if os.getppid() != int(options["parent"][0]):
        raise RuntimeError("the runner is gone")
    if os.geteuid() != 0:
        _become_nobody_of_a_new_world()
    _call("unshare", _NEW_PROCESSES)
    here, there = os.pipe()
    failed, fail = os.pipe()  # closes unused when the command begins: its exit code is not ours then
    child = os.fork()
    if child:
        os.close(here)
        os.close(fail)
        _end_as(child, failed, is_line=len(options["words"]) > 1)
    os.close(there)
    try:
        _enter(options, here, words=arguments[split + 1 :])
    except BaseException:
        os.write(fail, b"!")
        raise


def _enter(options: dict[str, list[str]], parent: int, *, words: list[str]) -> None:
    """Build the jail around this process and become the command, or run a line of them.

    `parent` is a pipe that the parent holds.
    """
    _jail(options)
    _die_with_parent()  # anew: the kernel forgets it when a process gives up its user
    os.set_blocking(parent, False)
    if _is_cut(parent):
        raise RuntimeError("the runner is gone")
    commands = _commands(words, [int(count) for count in options["words"]])
    filtered = bytes.fromhex(options["seccomp"][0])
    if len(commands) > 1:
        _run_line(commands, [int(count) for count in options["pipes"]], filtered)
    _become(commands[0], filtered)


def _commands(words: list[str], lengths: list[int]) -> list[list[str]]:
    commands = []
    for length in lengths:
        commands.append(words[:length])
        words = words[length:]
    return commands


def _become(command: list[str], filtered: bytes) -> None:
    _filter_calls(filtered)
    os.execve(command[0], command, {})  # noqa: S606


def _run_line(commands: list[list[str]], pipes: list[int], filtered: bytes) -> None:
    """As the first process of the jail: start the commands and end with them, which ends all others."""
    ends = [_pipe_aside(_PIPES_ASIDE + 2 * n) for n in range(sum(pipes))]
    first = 0  # of the pipes that lead to the next command
    read: list[int] = []
    for command, count in zip(commands, [*pipes, 0], strict=True):
        written = list(range(first, first + count))
        if os.fork() == 0:
            for n in read:
                os.dup2(ends[n][0], _FIRST_PIPE + n)
            for n in written:
                os.dup2(ends[n][1], _FIRST_PIPE + n)
            _become(command, filtered)  # all others close without our help
        read, first = written, first + count
    for end in (end for pair in ends for end in pair):
        os.close(end)
    _filter_calls(filtered)
    for _ in commands:
        _, status = os.wait()
        if os.WIFSIGNALED(status):
            os._exit(_SIGNALLED + os.WTERMSIG(status))  # no signal of its own ends the first process
        if status:
            os._exit(os.WEXITSTATUS(status))
    os._exit(0)


def _pipe_aside(number: int) -> tuple[int, int]:
    """Return the ends of a pipe, at this number and the next: away from those that commands know."""
    read, written = os.pipe()
    aside = (os.dup2(read, number, inheritable=False), os.dup2(written, number + 1, inheritable=False))
    os.close(read)
    os.close(written)
    return aside


def _become_nobody_of_a_new_world() -> None:
    """As an ordinary user: get the right to make the other namespaces by a user namespace of our own."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _NEW_USERS)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{NOBODY} {group} 1")


def _end_as(child: int, failed: int, *, is_line: bool) -> None:
    """Wait for the child and end like it; with FAILED only if it did not become the command."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        _end_by(os.WTERMSIG(status))
    code = os.WEXITSTATUS(status)
    if is_line and _SIGNALLED < code < _SIGNALLED + 32:
        _end_by(code - _SIGNALLED)
    os._exit(1 if code == FAILED and not os.read(failed, 1) else code)


def _end_by(signal: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal)
    os._exit(_SIGNALLED + signal)  # of one of the few that Python ignores


def _jail(options: dict[str, list[str]]) -> None:
    _write(
        "/proc/self/oom_score_adj", "1000"
    )  # if memory runs out, the kernel ends FFmpeg and the runner reports it
    _call("unshare", _NEW_MOUNTS | _NEW_NET | _NEW_IPC | _NEW_UTS)
    _see_only(_shown(options))
    for limit in options.get("limit", []):
        name, _, value = limit.partition("=")
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(value), int(value)))
    _drop_privileges()


def _shown(options: dict[str, list[str]]) -> list[tuple[int, str, int]]:
    """Return what is visible in the jail: descriptors, their paths inside, and the flags of their mounts."""
    found = [(os.open(path, os.O_PATH), path, _READ_ONLY) for path in options.get("need", [])]
    for path in options.get("read", []):
        found.append((_not_a_link(path, os.O_PATH), path, _READ_ONLY))
    for path in options.get("write", []):
        folder = _not_a_link(path, os.O_RDONLY | os.O_DIRECTORY)
        if os.geteuid() == 0:
            os.fchown(folder, NOBODY, NOBODY)
        found.append((folder, path, _NO_EXEC))
    return found


def _not_a_link(path: str, flags: int) -> int:
    """Open a file or folder. Raises OSError if it is anything else: O_PATH can even open a link."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW)
    kind = os.fstat(descriptor).st_mode & _KIND
    if kind not in (_A_FILE, _A_FOLDER):
        raise OSError(f"{path} is neither a file nor a folder")
    return descriptor


def _see_only(shown: list[tuple[int, str, int]]) -> None:
    """Replace the root by one that has only the files and folders of these descriptors."""
    _call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    os.chdir("/proc/self/fd")  # it can still be reached from here when _ROOT has covered it
    _call(
        "mount", b"jail", _ROOT.encode(), b"tmpfs", _NO_SETUID | _NO_DEVICES | _NO_EXEC, b"size=1m,mode=755"
    )
    for descriptor, path, flags in shown:
        _show(descriptor, path, flags | _NO_SETUID | _NO_DEVICES)
    sealed = _REMOUNT | _BIND | _READ_ONLY | _NO_SETUID | _NO_DEVICES | _NO_EXEC
    _call("mount", None, _ROOT.encode(), None, sealed, None)
    os.chdir(_ROOT)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def _show(descriptor: int, path: str, flags: int) -> None:
    """Mount the file or folder of a descriptor. The working directory is the one that lists descriptors."""
    target = _ROOT + path
    if os.fstat(descriptor).st_mode & _KIND == _A_FOLDER:
        os.makedirs(target, exist_ok=True)  # noqa: PTH103 - pathlib takes as long to import as all the rest
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    _call("mount", str(descriptor).encode(), os.fsencode(target), None, _BIND, None)
    flags |= os.statvfs(target).f_flag & _KEPT_FLAGS  # an ordinary user must not remove any
    _call("mount", None, os.fsencode(target), None, _REMOUNT | _BIND | flags, None)


def _drop_privileges() -> None:
    capability = 0
    while _libc.prctl(_DROP_BOUNDING, capability, 0, 0, 0) == 0:
        capability += 1
    if ctypes.get_errno() != 22:  # EINVAL: there are no more
        raise OSError(ctypes.get_errno(), "the bounding set stays")
    _call("prctl", *_CLEAR_AMBIENT, 0, 0, 0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.umask(0o077)


def _filter_calls(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    _call("prctl", _SET_SECCOMP, _SECCOMP_FILTER, ctypes.byref(Program(len(program) // 8, program)), 0, 0)


def _die_with_parent() -> None:
    _call("prctl", _SET_PARENT_DEATH_SIGNAL, _SIGKILL, 0, 0, 0)


def _is_cut(pipe: int) -> bool:
    """Return whether the other end of the pipe, which the waiting parent holds, is closed."""
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123
        file.write(text)


def _call(name: str, *arguments: object) -> None:
    """Call libc. Raises OSError that names the call and its first argument of text."""
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        where = next((a.decode(errors="replace") for a in arguments if isinstance(a, bytes)), "")
        raise OSError(number, f"{name} {where}: {os.strerror(number)}".replace(" :", ":"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as error:  # noqa: BLE001 - whatever it is, the command must not run
        os.write(2, f"jail: {error}\n".encode())
        os._exit(FAILED)
