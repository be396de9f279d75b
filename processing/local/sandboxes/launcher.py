"""A program that runs another one in namespaces of its own.

Its first argument is an order with the keys of `Namespaces.command`. `marshal` makes bytes of it, which are written as
hexadecimal digits. The command line of the other program follows.

The sequence is: unshare, map the user to itself, mount, and fork the program into a session of its own. With a process
namespace, the forked process is the namespace's init: all processes that the program leaves die with it. Every process
here dies with its parent, so none survives the supervisor.

The forked process leads the program's group. Its id is written to the report descriptor as `{"child-pid": N}`.
The exit code is the program's own, 128 plus the signal that ended it, or 125 if the namespaces cannot be made.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH102, PTH103, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211

# Each job waits for the start of this program. `json`, `signal`, `socket`, `contextlib` and `typing` would double it.
# ruff: noqa: SIM105

from __future__ import annotations

import ctypes
import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_NOATIME, MS_NODIRATIME, MS_PRIVATE, MS_RELATIME = 1024, 2048, 1 << 18, 1 << 21
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
SIGKILL, SIGPIPE, SIGXFSZ = 9, 13, 25
SIG_DFL = None
FAILED = 125

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, operation: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{operation}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount a file system, as the system call does."""
    name, data = (None if text is None else text.encode() for text in (kind, options))
    result = _libc.mount(os.fsencode(source), os.fsencode(target), name, ctypes.c_ulong(flags), data)
    _check(result, f"mount {source} on {target}")


def bind(source: str, target: str, read_only: bool) -> None:
    """Bind `source` to `target`."""
    mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def unshare(order: dict[str, Any]) -> None:
    """Enter new namespaces; the user keeps its id."""
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNS | CLONE_NEWUTS
    flags |= CLONE_NEWUSER if order["users"] else 0
    flags |= CLONE_NEWPID if order["processes"] else 0
    flags |= 0 if order["network"] else CLONE_NEWNET
    _check(_libc.unshare(flags), "unshare")
    if order["users"]:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def build_tree(order: dict[str, Any]) -> None:
    """Mount the files that the job sees: its own folders, the binds, its /etc/hosts, and empty places for the masks."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    # These are opened before a mount covers them: afterwards their paths are unreachable.
    tmp = order["tmp"] or []
    sources = [order["ml_root"], *(source for source, _, _ in order["binds"]), *order["kept"], *tmp[:1]]
    sources += [order["hosts_file"]] if order["hosts_file"] else []
    opened = {source: os.open(source, os.O_PATH) for source in sources}
    mount_opt(order["opt"])
    if tmp:
        bind(f"/proc/self/fd/{opened[tmp[0]]}", tmp[1], read_only=False)
    if order["shm"]:
        mount("tmpfs", order["shm"], "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for path in order["kept"]:
        make_place(path, f"/proc/self/fd/{opened[path]}")
        bind(f"/proc/self/fd/{opened[path]}", path, read_only=False)
    bind(f"/proc/self/fd/{opened[order['ml_root']]}", "/opt/ml", read_only=False)
    for source, target, read_only in order["binds"]:
        bind(f"/proc/self/fd/{opened[source]}", target, read_only)
    if order["hosts_file"]:
        bind(f"/proc/self/fd/{opened[order['hosts_file']]}", "/etc/hosts", read_only=True)
    for path, is_directory in order["masks"]:
        mount("tmpfs", path, "tmpfs", MS_RDONLY) if is_directory else bind("/dev/null", path, read_only=False)
    for fd in opened.values():
        os.close(fd)


def mount_opt(entries: list[str]) -> None:
    """Mount an /opt with the machine's entries, and with a place for `ml`."""
    links = {path: os.readlink(path) for path in entries if os.path.islink(path)}
    kept = {path: os.open(path, os.O_PATH) for path in entries if path not in links}
    places = {path: f"/proc/self/fd/{fd}" for path, fd in kept.items()}
    mount("tmpfs", "/opt", "tmpfs", 0)
    for path, text in links.items():
        os.symlink(text, path)
    for path, place in places.items():
        make_place(path, place)
        bind(place, path, read_only=False)
        os.close(kept[path])
    os.mkdir("/opt/ml")


def make_place(path: str, source: str) -> None:
    """Make a directory or an empty file to bind `source` to."""
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def raise_loopback() -> None:
    """Bring up the interface `lo` of a new network namespace."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, process `parent`, ends."""
    _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(FAILED)


def execute(order: dict[str, Any]) -> NoReturn:
    """Replace this process by the program."""
    try:
        os.chdir(order["cwd"])
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for number in (SIGPIPE, SIGXFSZ):  # Python ignores these two signals; the program must not
            _libc.signal(number, SIG_DFL)
        os.execvpe(order["argv"][0], order["argv"], os.environ)  # noqa: S606 - the purpose of this program
    except OSError as error:
        os.write(2, f"{order['argv'][0]}: {error.strerror}\n".encode())
    os._exit(127)


def exit_code(status: int) -> int:
    """Return the exit code for a wait status."""
    code = os.waitstatus_to_exitcode(status) if hasattr(os, "waitstatus_to_exitcode") else status >> 8
    return code if code >= 0 else 128 - code


def wait_for(pid: int) -> int:
    """Reap children until `pid` itself has ended, and return its exit code."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return exit_code(status)


def run_as_init(order: dict[str, Any]) -> NoReturn:
    """Run as process 1 of the new process namespace: mount its /proc, run the program, and end all with it."""
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    pid = os.fork()
    if pid == 0:
        execute(order)
    os._exit(wait_for(pid))


def import_late_modules(order: dict[str, Any]) -> None:
    """Import what only some orders need, while this Python's own files are where they were."""
    if not order["network"]:
        import fcntl  # noqa: F401 - for `raise_loopback`
        import socket  # noqa: F401 - as above
        import struct  # noqa: F401 - as above
    if "/" not in order["argv"][0]:
        import warnings  # noqa: F401 - for `os.execvpe`, when it searches the PATH


def run(order: dict[str, Any]) -> int:
    """Execute the order, and return the program's exit code."""
    import_late_modules(order)
    parent = os.getppid()
    unshare(order)
    die_with_parent(parent)  # after unshare, since a change of credentials clears the setting
    build_tree(order)
    name = order["hostname"].encode()
    _check(_libc.sethostname(name, len(name)), "sethostname")
    if not order["network"]:
        raise_loopback()
    return start(order)


def start(order: dict[str, Any]) -> int:
    """Fork the program, report its group, wait for it, and kill the rest of the group."""
    own = os.getpid()
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # In a new process namespace the parent is outside, and getppid returns 0.
            die_with_parent(0 if order["processes"] else own)
            os.setsid()
            os.close(ready_read)
            os.write(ready_write, b"1")
            os.close(ready_write)
            run_as_init(order) if order["processes"] else execute(order)
        except OSError as error:
            os.write(2, f"the sandbox failed: {error}\n".encode())
        os._exit(FAILED)
    os.close(ready_write)
    os.read(ready_read, 1)  # from now on the child leads a session of its own
    if order["report_fd"] is not None:
        os.write(order["report_fd"], b'{"child-pid": %d}' % pid)
        os.close(order["report_fd"])
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        os.killpg(pid, SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    return wait_for(pid)


def main(arguments: Sequence[str]) -> NoReturn:
    """Execute the order that the first argument contains, with the others as the program's command line.

    The process ends with the program's exit code, at once: there is nothing to clean up.
    """
    order = {**marshal.loads(bytes.fromhex(arguments[0])), "argv": arguments[1:]}  # noqa: S302 - of our supervisor
    if order["report_fd"] is not None:
        os.set_inheritable(order["report_fd"], False)  # noqa: FBT003 - the function has no keyword
    code = FAILED
    try:
        code = run(order)
    except OSError as error:
        os.write(2, f"the sandbox failed: {error}\n".encode())
    os._exit(code)
