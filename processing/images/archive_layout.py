"""Archives of images: reads those of Docker and OCI, and writes one that tools for either form load.

Docker's form has `manifest.json`, the OCI form `index.json` and `oci-layout`, and an archive may have both. A copy has
both: each blob is stored once, below `blobs/sha256`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tarfile
import tempfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from attrs import evolve, frozen

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_OCI = "application/vnd.oci.image."
_MANIFEST, _CONFIG, _LAYER = _OCI + "manifest.v1+json", _OCI + "config.v1+json", _OCI + "layer.v1.tar"
_INDEXES = {_OCI + "index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
_SUFFIXES = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_JSON_BYTES = 16 << 20
"""The largest description of an image; registries allow 4 MiB."""
_PIECE = 1 << 20
_INDEX_DEPTH = 4
_REMEDY = "save the image again, for example with: docker save IMAGE -o image.tar"
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError)


@frozen
class Blob:
    """A file of an archive that an image consists of.

    Attributes:
        member: its name in the archive.
        digest: the SHA-256 of its content, in hexadecimal digits; empty if the archive does not tell.
        media_type: its type in the OCI form.
    """

    member: str
    digest: str
    media_type: str = _LAYER


@frozen
class StoredImage:
    """One image of an archive.

    Attributes:
        config: its configuration.
        layers: its layers, the lowest first.
        tags: its names.
    """

    config: Mapping[str, Any]
    layers: tuple[Blob, ...]
    tags: tuple[str, ...]


class ImageArchive:
    """An archive with one image, open for reading.

    Args:
        path: the archive; it may be compressed with gzip, bzip2 or xz.
        platform: the platform to choose, such as `linux/amd64`, if the archive has several.
        parameter: the caller's name of the archive, for errors.

    Raises:
        ConfigurationError: the file is missing or damaged, or has no image, or more than one.
    """

    def __init__(self, path: Path, platform: str | None = None, parameter: str = "image") -> None:
        self.path = path
        self.parameter = parameter
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(_open_uncompressed(path, parameter))
            with self.damage():
                self._tar = stack.enter_context(tarfile.open(fileobj=self._file, mode="r:"))
                self._members = {_normal(member.name): member for member in self._tar}
                self.image = self._read_image(platform)
            self._resources = stack.pop_all()

    def __enter__(self) -> ImageArchive:
        return self

    def __exit__(self, *_error: object) -> None:
        self._resources.close()

    def open(self, blob: Blob) -> BinaryIO:
        """Open a blob for reading."""
        return self._open(blob.member)

    def problem(self, text: str) -> ConfigurationError:
        """Return an error about this archive."""
        return ConfigurationError(f"{self.parameter}: {self.path} {text}; {_REMEDY}")

    @contextlib.contextmanager
    def damage(self) -> Iterator[None]:
        """Turn the errors of a damaged archive into one with a remedy."""
        try:
            yield
        except ConfigurationError:
            raise  # it is a ValueError, too
        except _DAMAGED as error:
            raise self.problem(f"is damaged, or no archive of an image ({error})") from error

    def verified(self) -> StoredImage:
        """Return the image with the digest of each layer, computed from its content.

        Raises:
            ConfigurationError: a layer has another digest than the archive tells.
        """
        layers = []
        for layer in self.image.layers:
            with self.damage(), self.open(layer) as source:
                digest = _digest(source)
                suffix = _suffix(source)
            if layer.digest and layer.digest != digest:
                raise self.problem(f"is damaged: {layer.member} has the digest {digest}, not {layer.digest}")
            kind = layer.media_type if layer.media_type != _LAYER else _LAYER + suffix
            layers.append(evolve(layer, digest=digest, media_type=kind))
        return evolve(self.image, layers=tuple(layers))

    def _read_image(self, platform: str | None) -> StoredImage:
        if "index.json" in self._members:
            image = self._read_oci(platform)
        elif "manifest.json" in self._members:
            image = self._read_docker()
        else:
            raise self.problem("has neither manifest.json nor index.json, so it is no archive of an image")
        return image

    def _layer_identifiers(self, config: Mapping[str, Any], layers: list[Any]) -> list[str]:
        """Return the digests of the layers' uncompressed content."""
        known = _strings(_mapping(config.get("rootfs")).get("diff_ids"))
        if len(known) != len(layers):
            raise self.problem(f"is damaged: it has {len(layers)} layers, and its configuration names {len(known)}")
        return known

    def _read_docker(self) -> StoredImage:
        entries = self._json("manifest.json")
        if not isinstance(entries, list) or len(entries) != 1:
            number = len(entries) if isinstance(entries, list) else "no"
            raise self.problem(f"has {number} images, and exactly one is needed")
        entry = _mapping(entries[0])
        config = _mapping(self._json(str(entry.get("Config"))))
        names = _strings(entry.get("Layers"))
        identifiers = self._layer_identifiers(config, names)
        layers = [
            Blob(name, self._uncompressed_digest(name, identifier))
            for name, identifier in zip(names, identifiers, strict=True)
        ]
        return StoredImage(config, tuple(layers), tuple(_strings(entry.get("RepoTags"))))

    def _uncompressed_digest(self, name: str, identifier: str) -> str:
        """Return a layer's identifier as its digest; empty if it is compressed: it identifies the content within."""
        with self._open(name) as source:
            return "" if source.read(2) in {magic[:2] for magic in _SUFFIXES} else identifier.partition(":")[2]

    def _read_oci(self, platform: str | None) -> StoredImage:
        found = list(self._manifests(_mapping(self._json("index.json")), ()))
        if platform is not None:
            found = [each for each in found if self._platform(each[0]) == platform]
        if len({descriptor.get("digest") for descriptor, _ in found}) != 1:
            names = ", ".join(sorted({self._platform(descriptor) or "unknown" for descriptor, _ in found})) or "none"
            raise ConfigurationError(
                f"{self.parameter}: {self.path} has {len(found)} images for one platform each ({names}), and exactly "
                f"one is needed; name a platform, such as linux/amd64"
            )
        descriptor, tags = found[0]
        manifest = _mapping(self._blob_json(descriptor))
        config = _mapping(self._blob_json(_mapping(manifest.get("config"))))
        layers = [
            Blob(self._blob_name(each), _sha256(each), str(each.get("mediaType", _LAYER)))
            for each in map(_mapping, _items(manifest.get("layers")))
        ]
        self._layer_identifiers(config, layers)
        return StoredImage(config, tuple(layers), tags or self._docker_tags())

    def _docker_tags(self) -> tuple[str, ...]:
        entries = self._json("manifest.json") if "manifest.json" in self._members else []
        return tuple(tag for entry in _items(entries) for tag in _strings(_mapping(entry).get("RepoTags")))

    def _manifests(
        self, index: Mapping[str, Any], tags: tuple[str, ...], depth: int = 0
    ) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
        """Yield the descriptors of manifests whose files are in the archive, and their tags."""
        for descriptor in map(_mapping, _items(index.get("manifests"))):
            notes = _mapping(descriptor.get("annotations"))
            name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
            own = (str(name),) if name else tags
            # An attestation, or another platform's image that `docker save` has left out.
            if "vnd.docker.reference.type" in notes or self._blob_name(descriptor) not in self._members:
                continue
            if descriptor.get("mediaType") in _INDEXES and depth < _INDEX_DEPTH:
                yield from self._manifests(_mapping(self._blob_json(descriptor)), own, depth + 1)
            else:
                yield descriptor, own

    def _platform(self, descriptor: Mapping[str, Any]) -> str:
        platform = _mapping(descriptor.get("platform"))
        if not platform:
            manifest = _mapping(self._blob_json(descriptor))
            platform = _mapping(self._blob_json(_mapping(manifest.get("config"))))
        return f"{platform.get('os', '')}/{platform.get('architecture', '')}".strip("/")

    @staticmethod
    def _blob_name(descriptor: Mapping[str, Any]) -> str:
        return "blobs/" + str(descriptor.get("digest")).replace(":", "/")

    def _blob_json(self, descriptor: Mapping[str, Any]) -> Any:
        name = self._blob_name(descriptor)
        with self._open(name) as source:
            if _digest(source) != _sha256(descriptor):
                raise self.problem(f"is damaged: {name} has another digest than its name")
        return self._json(name)

    def _json(self, name: str) -> Any:
        with self._open(name) as source:
            data = source.read(_JSON_BYTES + 1)
        if len(data) > _JSON_BYTES:
            raise self.problem(f"is damaged: {name} has more than {_JSON_BYTES >> 20} MiB")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.problem(f"is damaged: {name} is not JSON ({error})") from error

    def _open(self, name: str) -> BinaryIO:
        member = self._members.get(_normal(name))
        if member is None:
            raise self.problem(f"is damaged: it has no {name}")
        # `docker save` of old versions stores a layer that two images share once, and links to it.
        found = self._members.get(_linked(member)) if member.issym() else member
        opened = None if found is None or not found.isfile() else self._tar.extractfile(found)
        if opened is None:
            raise self.problem(f"is damaged: {name} is no file")
        return cast("BinaryIO", opened)


class NewLayer:
    """A layer that is added to an image; the same files make the same layer.

    Attributes:
        data: its content, an uncompressed tar file.
        digest: its SHA-256 in hexadecimal digits.
    """

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see close

    def add_file(self, name: str, data: bytes, mode: int) -> None:
        """Add a file of root's."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), mode
        self._tar.addfile(info, io.BytesIO(data))

    def add_folder(self, name: str, mode: int) -> None:
        """Add a folder of root's; one that exists keeps its content."""
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(info)

    def close(self) -> bytes:
        """Return the layer's content."""
        self._tar.close()
        return self._file.getvalue()


def write_archive(
    target: Path, source: ImageArchive, image: StoredImage, config: Mapping[str, Any], layer: bytes, tag: str | None
) -> None:
    """Write an archive: the layers of an image, one more above them, and another configuration.

    Args:
        target: the new archive. It appears whole or not at all, and replaces a file of that name.
        source: the archive of the image.
        image: the image, with verified layers.
        config: the new configuration, which names all layers.
        layer: the content of the new layer.
        tag: the new image's name; None for no name.

    Raises:
        ConfigurationError: the source changed meanwhile, or the target cannot be written.
    """
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _ArchiveWriter(tar).write(source, image, config, layer, tag)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise ConfigurationError(f"output: {target} cannot be written ({error}); name another file") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class _ArchiveWriter:
    """Writes the members of an archive, each blob once."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._written: set[str] = set()

    def write(
        self, source: ImageArchive, image: StoredImage, config: Mapping[str, Any], layer: bytes, tag: str | None
    ) -> None:
        layers = []
        for blob in image.layers:
            with source.open(blob) as content:
                size = content.seek(0, os.SEEK_END)
                content.seek(0)
                layers.append(_descriptor(blob.media_type, blob.digest, size))
                self._blob(blob.digest, size, content, source)
        layers.append(self._bytes(_LAYER, layer))
        described = self._bytes(_CONFIG, _encode(config))
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": layers}
        entry = self._bytes(_MANIFEST, _encode(manifest))
        entry["platform"] = {"architecture": config.get("architecture", ""), "os": config.get("os", "")}
        if tag is not None:
            names = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag.rpartition(":")[2]}
            entry["annotations"] = names
        docker = {
            "Config": _path(described),
            "RepoTags": [] if tag is None else [tag],
            "Layers": [_path(each) for each in layers],
        }
        self._member(
            "index.json", _encode({"schemaVersion": 2, "mediaType": _OCI + "index.v1+json", "manifests": [entry]})
        )
        self._member("manifest.json", _encode([docker]))
        self._member("oci-layout", _encode({"imageLayoutVersion": "1.0.0"}))

    def _bytes(self, media_type: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self._blob(digest, len(data), io.BytesIO(data), None)
        return _descriptor(media_type, digest, len(data))

    def _blob(self, digest: str, size: int, content: BinaryIO, source: ImageArchive | None) -> None:
        if digest in self._written:
            return
        self._written.add(digest)
        reader = _HashingReader(content, source)
        info = tarfile.TarInfo(f"blobs/sha256/{digest}")
        info.size = size
        self._tar.addfile(info, cast("BinaryIO", reader))  # tarfile reads it, and no more
        if source is not None and reader.digest != digest:
            raise source.problem("was changed while it was read")

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))


class _HashingReader:
    """A file that computes the digest of the bytes that are read from it."""

    def __init__(self, source: BinaryIO, archive: ImageArchive | None) -> None:
        self._source = source
        self._archive = archive
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int = -1) -> bytes:
        # Errors of the new archive, such as a full disk, are not errors of the source.
        with contextlib.nullcontext() if self._archive is None else self._archive.damage():
            data = self._source.read(size)
        self._hash.update(data)
        return data


@contextlib.contextmanager
def _open_uncompressed(path: Path, parameter: str) -> Iterator[BinaryIO]:
    """Open an archive; unpack a compressed one to a temporary file first, since its parts are read in any order."""
    try:
        with contextlib.ExitStack() as stack:
            opened: BinaryIO = stack.enter_context(path.open("rb"))
            module = _compression(opened.read(6), parameter)
            opened.seek(0)
            if module is not None:
                temporary: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stack.enter_context(module.open(opened, "rb")), temporary, _PIECE)
                temporary.seek(0)
                opened = temporary
            yield opened
    except (EOFError, zlib.error, OSError) as error:
        raise ConfigurationError(f"{parameter}: {path} cannot be read ({error}); {_REMEDY}") from error


def _compression(start: bytes, parameter: str) -> Any:
    import bz2
    import gzip
    import lzma

    if start.startswith(b"\x28\xb5\x2f\xfd"):
        raise ConfigurationError(f"{parameter}: the archive is compressed with zstd; unpack it first, with: zstd -d")
    modules = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}
    return next((module for magic, module in modules.items() if start.startswith(magic)), None)


def _digest(source: BinaryIO) -> str:
    """Return the SHA-256 of a file, and go back to its beginning."""
    digest = hashlib.sha256()
    for piece in iter(lambda: source.read(_PIECE), b""):
        digest.update(piece)
    source.seek(0)
    return digest.hexdigest()


def _suffix(source: BinaryIO) -> str:
    start = source.read(4)
    source.seek(0)
    return next((suffix for magic, suffix in _SUFFIXES.items() if start.startswith(magic)), "")


def _normal(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _linked(member: tarfile.TarInfo) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))  # noqa: PTH118, PTH120 - no path of this machine


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    return [str(each) for each in _items(value)]


def _sha256(descriptor: Mapping[str, Any]) -> str:
    found = re.fullmatch(r"sha256:([0-9a-f]{64})", str(descriptor.get("digest")))
    return "" if found is None else found[1]


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _path(descriptor: Mapping[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
