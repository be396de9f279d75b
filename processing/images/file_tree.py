"""Files of an image: the paths that remain after its layers were applied on top of each other."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    import tarfile

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_LINKS = 40
"""The most links on the way to a file, as in Linux."""


@define
class Node:
    """One file, folder or link of an image.

    Attributes:
        mode: type and permissions, as in `os.stat_result.st_mode`.
        link: the target of a symbolic link; empty for others.
        children: the content of a folder, by name.
    """

    mode: int
    link: str = ""
    children: dict[str, Node] = field(factory=dict)

    @property
    def is_folder(self) -> bool:
        """True for a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_program(self) -> bool:
        """True for a file that may be executed."""
        return stat.S_ISREG(self.mode) and bool(self.mode & 0o111)


class FileTree:
    """The files of an image."""

    def __init__(self) -> None:
        self._root = Node(stat.S_IFDIR | 0o755)

    def apply(self, layer: tarfile.TarFile) -> None:
        """Apply the next layer: first what it removes, then what it adds."""
        members = [(_parts(member.name), member) for member in layer]
        for parts, _ in members:
            if parts and parts[-1].startswith(_WHITEOUT):
                self._remove(parts)
        for parts, member in members:
            if parts and not parts[-1].startswith(_WHITEOUT):
                self._add(parts, member)

    def resolve(self, path: str) -> str | None:
        """Return the path of an existing file or folder after all links; None if there is no such file."""
        found = self._walk(path)
        return None if found is None else "/" + "/".join(found[0])

    def find(self, path: str) -> Node | None:
        """Return the file or folder at a path, after all links; None if there is no such file."""
        found = self._walk(path)
        return None if found is None else found[1]

    def entry(self, path: str) -> Node | None:
        """Return the entry at a path: a link itself, not its target. None if there is no such entry."""
        *parents, last = _parts(path)
        found = self._walk("/".join(parents))
        return None if found is None else found[1].children.get(last)

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, in order; none if there is no such folder."""
        found = self.find(path)
        return [] if found is None else sorted(found.children)

    def _walk(self, path: str) -> tuple[list[str], Node] | None:
        todo = list(reversed(_parts(path, keep_parents=True)))
        done: list[str] = []
        nodes = [self._root]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if done:
                    done.pop()
                    nodes.pop()
                continue
            node = nodes[-1].children.get(part)
            if node is None:
                return None
            if not stat.S_ISLNK(node.mode):
                done.append(part)
                nodes.append(node)
                continue
            links += 1
            if links > _LINKS:
                return None
            if node.link.startswith("/"):
                done, nodes = [], [self._root]
            todo.extend(reversed(_parts(node.link, keep_parents=True)))
        return done, nodes[-1]

    def _remove(self, parts: list[str]) -> None:
        folder = self._root
        for part in parts[:-1]:
            inner = folder.children.get(part)
            if inner is None:
                return
            folder = inner
        if parts[-1] == _OPAQUE:
            folder.children.clear()
        else:
            folder.children.pop(parts[-1].removeprefix(_WHITEOUT), None)

    def _add(self, parts: list[str], member: tarfile.TarInfo) -> None:
        folder = self._root
        for part in parts[:-1]:
            inner = folder.children.get(part)
            if inner is None or not inner.is_folder:
                inner = folder.children[part] = Node(stat.S_IFDIR | 0o755)
            folder = inner
        known = folder.children.get(parts[-1])
        node = _node(member)
        if known is not None and known.is_folder and node.is_folder:
            node.children = known.children
        folder.children[parts[-1]] = node


def _node(member: tarfile.TarInfo) -> Node:
    permissions = member.mode & 0o7777
    if member.isdir():
        return Node(stat.S_IFDIR | permissions)
    if member.issym():
        return Node(stat.S_IFLNK | 0o777, member.linkname)
    if member.isfile() or member.islnk():
        return Node(stat.S_IFREG | permissions)
    return Node(stat.S_IFCHR | permissions)  # devices and pipes: neither a folder nor a program


def _parts(path: str, *, keep_parents: bool = False) -> list[str]:
    """Return the parts of a path; a `..` leads nowhere in the name of a member."""
    dropped = {"", "."} if keep_parents else {"", ".", ".."}
    return [part for part in path.split("/") if part not in dropped]
