"""Sockets that listen, and their processes, as Linux lists them in /proc."""

from __future__ import annotations

import os
import re
import socket
import struct
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Set

_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")
_UNSPECIFIED = frozenset({"0.0.0.0", "::"})  # noqa: S104 - the addresses are compared, not bound
PROC = Path("/proc")


class ListeningSocket(NamedTuple):
    """A TCP socket that listens.

    Attributes:
        address: the IP address.
        port: the port.
        process: the name of a process that holds it; empty if it is not known.
    """

    address: str
    port: int
    process: str = ""

    @property
    def reachable(self) -> bool:
        """True if connections from outside the machine or container can reach it."""
        return self.address in _UNSPECIFIED or not _is_loopback(self.address)

    def __str__(self) -> str:
        host = "[%s]" % self.address if ":" in self.address else self.address
        return "%s:%d" % (host, self.port) + (" (%s)" % self.process if self.process else "")


def listeners_of(pid: int, proc: Path = PROC) -> Optional[List[ListeningSocket]]:
    """Return the listening sockets of a process and its descendants; None if the system does not tell.

    Args:
        pid: the process.
        proc: the folder of the system's list.
    """
    if not (proc / "net/tcp").exists():
        return None
    names: Dict[str, str] = {}
    for each in sorted(_descendants(pid, proc)):
        for inode in _sockets(proc / str(each)):
            names.setdefault(inode, _name(proc / str(each)))
    found = _read_tables(proc / "net")
    return _ordered(found[inode]._replace(process=name) for inode, name in names.items() if inode in found)


def listeners_in_network_of(pid: int, proc: Path = PROC) -> Optional[List[ListeningSocket]]:
    """Return the listening sockets in the network of a process; None if the system does not tell.

    Args:
        pid: the process.
        proc: the folder of the system's list.
    """
    folder = proc / str(pid) / "net"
    return _ordered(_read_tables(folder).values()) if (folder / "tcp").exists() else None


def _read_tables(folder: Path) -> Dict[str, ListeningSocket]:
    """Return the listening sockets of a network, by their inodes."""
    found = {}
    for name in ("tcp", "tcp6"):
        try:
            rows = (folder / name).read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for row in rows:
            fields = row.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                found[fields[9]] = ListeningSocket(_decode(address), int(port, 16))
    return found


def _decode(text: str) -> str:
    """Return an address from hexadecimal digits: 32-bit words in the order of this machine's bytes."""
    words = [int(text[place : place + 8], 16) for place in range(0, len(text), 8)]
    packed = struct.pack("=%dI" % len(words), *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.rpartition(":")[2].startswith("127.")


def _descendants(pid: int, proc: Path) -> Set[int]:
    parents: Dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                # The name of a process, in brackets, may contain anything.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
            except (OSError, IndexError, ValueError):
                continue
    found = {pid}
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


def _sockets(folder: Path) -> List[str]:
    found = []
    try:
        for entry in (folder / "fd").iterdir():
            match = _SOCKET.fullmatch(os.readlink(str(entry)))  # noqa: PTH115 - Path.readlink came with Python 3.9
            if match is not None:
                found.append(match.group(1))
    except OSError:  # the process has ended, or belongs to another user
        pass
    return found


def _name(folder: Path) -> str:
    try:
        return "%s, pid %s" % ((folder / "comm").read_text(errors="replace").strip(), folder.name)
    except OSError:
        return "pid %s" % folder.name


def _ordered(listeners: Iterable[ListeningSocket]) -> List[ListeningSocket]:
    return sorted(set(listeners), key=lambda each: (each.port, each.address))
