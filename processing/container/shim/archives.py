"""Archives of inputs: zip and tar files, unpacked so that nothing is written outside a folder."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Callable, List, Optional, Tuple

from processing.container.shim.errors import ShimError

_JUNK = ("__MACOSX", ".DS_Store", "desktop.ini")
"""Names that operating systems add to archives. Files whose path contains one are left out."""


_TAR_STARTS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
"""The first bytes of compressed tar files."""
_TAR_MARK, _TAR_PLACE = b"ustar", 257
_PIECE = 1 << 20


def unpack(
    archive: BinaryIO, folder: Path, phase: str, *, strip: bool, check: Callable[[], None] = lambda: None
) -> None:
    """Unpack a zip file or a tar file into an existing folder.

    Args:
        archive: the archive, a file that can seek.
        folder: the folder.
        phase: the phase of the errors.
        strip: whether to leave out the folder that all members have in common, and files of operating systems.
        check: is called before each piece. Its error ends the work.

    Raises:
        ShimError: the archive is damaged, or a member would be outside the folder. Members before it may be there.
        OSError: the disk is full, or a file cannot be written for another reason.
    """
    unpacker = _Unpacker(folder, phase, check, strip=strip)
    try:
        if _is_zip(archive):
            unpacker.unzip(archive)
        else:
            unpacker.untar(archive)
    except ShimError:
        raise
    except Exception as error:
        # Each format and each version of Python has errors of its own for damage. Those of a disk have a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ShimError(phase, "The archive cannot be unpacked: %s" % (str(error) or type(error).__name__)) from error


def open_inside(folder: Path, name: str, phase: str) -> BinaryIO:
    """Make a file below a folder, with its parent folders, without following a link.

    Raises:
        ShimError: the name leaves the folder, or a part of it is a link or a file.
    """
    parts = _parts(name, phase)
    parent = _make_folder(folder, parts[:-1], phase)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.fdopen(os.open(str(parent / parts[-1]), flags, 0o644), "wb")
    except (IsADirectoryError, FileExistsError) as error:
        raise ShimError(phase, "The file %r cannot be made: %s" % (name, error.strerror)) from error


def _parts(name: str, phase: str) -> List[str]:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", "."}]
    if not parts or ".." in parts or "\0" in name or name.startswith("/"):
        raise ShimError(phase, "The archive has an invalid path: %r" % name)
    return parts


def _make_folder(folder: Path, parts: List[str], phase: str) -> Path:
    current = folder
    for part in parts:
        current /= part
        try:
            current.mkdir()
        except FileExistsError:
            if current.is_symlink() or not current.is_dir():
                raise ShimError(phase, "%r is not a folder" % "/".join(parts)) from None
    return current


def _is_zip(archive: BinaryIO) -> bool:
    """Return whether an archive is a zip file. A tar file whose last member is one seems to be one, too."""
    archive.seek(0)
    start = archive.read(512)
    is_tar = start.startswith(_TAR_STARTS) or start[_TAR_PLACE:].startswith(_TAR_MARK)
    found = not is_tar and zipfile.is_zipfile(archive)
    archive.seek(0)
    return found


class _Unpacker:
    """Unpacks one archive."""

    def __init__(self, folder: Path, phase: str, check: Callable[[], None], *, strip: bool) -> None:
        self._folder = folder
        self._phase = phase
        self._check = check
        self._strip = strip

    def unzip(self, archive: BinaryIO) -> None:
        with zipfile.ZipFile(archive) as opened:
            names = {each.filename: each for each in opened.infolist() if not each.is_dir()}
            for name, inner in _targets(list(names), self._phase, strip=self._strip):
                with opened.open(names[name]) as source, open_inside(self._folder, inner, self._phase) as target:
                    self._copy(source, target)

    def untar(self, archive: BinaryIO) -> None:
        with tarfile.open(fileobj=archive) as opened:
            members = opened.getmembers()
            names = {each.name.lstrip("/"): each for each in members if each.isfile() or each.islnk() or each.issym()}
            links = []
            for name, inner in _targets(list(names), self._phase, strip=self._strip):
                member = names[name]
                if member.issym():
                    links.append((inner, member.linkname))
                    continue
                source = _content(opened, member)
                if source is None:
                    raise ShimError(self._phase, "The archive has a link to nothing: %r" % name)
                with source, open_inside(self._folder, inner, self._phase) as target:
                    self._copy(source, target)
                    os.fchmod(target.fileno(), (member.mode & 0o755) | 0o600)
            # Links come last, so that no file is written through one.
            for inner, linked in links:
                _make_link(self._folder, inner, linked, self._phase)

    def _copy(self, source: IO[bytes], target: BinaryIO) -> None:
        while True:
            self._check()
            piece = source.read(_PIECE)
            if not piece:
                return
            target.write(piece)


def _content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> Optional[IO[bytes]]:
    """Return the content of a file; that of a hard link is another member's."""
    try:
        return opened.extractfile(member)
    except KeyError:
        return None


def _make_link(folder: Path, name: str, linked: str, phase: str) -> None:
    """Make a symbolic link that stays in the folder.

    Its target is some `..` and then names. A name after which `..` follows could be a link itself, and the path would
    lead elsewhere than its text.
    """
    parts = _parts(name, phase)
    target = [part for part in PurePosixPath(linked).parts if part != "."]
    ups = next((number for number, part in enumerate(target) if part != ".."), len(target))
    if linked.startswith("/") or ups > len(parts) - 1 or ".." in target[ups:]:
        raise ShimError(phase, "The archive has a link that leaves its folder: %r" % name)
    parent = _make_folder(folder, parts[:-1], phase)
    try:
        (parent / parts[-1]).symlink_to(linked)
    except FileExistsError:
        raise ShimError(phase, "The archive has two members of the name %r" % name) from None


def _targets(names: List[str], phase: str, *, strip: bool) -> List[Tuple[str, str]]:
    """Return each member's name, and its path below the folder."""
    for name in names:
        _parts(name, phase)
    if not strip:
        return [(name, name) for name in names]
    kept = [name for name in names if not any(junk in name for junk in _JUNK)]
    folders = [name.split("/")[:-1] for name in kept]
    common = 0
    while folders and all(len(each) > common and each[common] == folders[0][common] for each in folders):
        common += 1
    return [(name, "/".join(name.split("/")[common:])) for name in kept]
