"""Archives of images, built without a container program."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any


def layer(files: dict[str, Any]) -> bytes:
    """Return a layer: bytes make a program, None a folder, and a string a link to it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return packed.getvalue()


def config_of(layers: list[bytes], **inner: Any) -> dict[str, Any]:
    """Return the configuration of an image."""
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(each)}" for each in layers]},
        "history": [{"created_by": "a test"} for _ in layers],
    }


def docker_archive(path: Path, layers: list[bytes], tags: tuple[str, ...] = ("prog:1",), **inner: Any) -> Path:
    """Write an archive as old versions of `docker save` do, with a link in place of a layer that appears twice."""
    config = json.dumps(config_of(layers, **inner)).encode()
    members: dict[str, Any] = {f"{digest(config)}.json": config}
    names, seen = [], dict[str, str]()
    for number, data in enumerate(layers):
        names.append(f"{number:064d}/layer.tar")
        first = seen.setdefault(digest(data), names[-1])
        members[names[-1]] = data if first == names[-1] else f"../{first}"
    entry = {"Config": f"{digest(config)}.json", "RepoTags": list(tags), "Layers": names}
    members["manifest.json"] = json.dumps([entry]).encode()
    path.write_bytes(layer(members))
    return path


def oci_archive(path: Path, layers: list[bytes], tag: str = "prog:1", **inner: Any) -> Path:
    """Write an archive in the OCI form with compressed layers, and with an attestation as `docker buildx` adds."""
    members: dict[str, Any] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(media_type: str, data: bytes) -> dict[str, Any]:
        members[f"blobs/sha256/{digest(data)}"] = data
        kind = f"application/vnd.oci.image.{media_type}"
        return {"mediaType": kind, "digest": f"sha256:{digest(data)}", "size": len(data)}

    def put(media_type: str, value: Any) -> dict[str, Any]:
        return blob(media_type, json.dumps(value).encode())

    packed = [blob("layer.v1.tar+gzip", gzip.compress(each, mtime=0)) for each in layers]
    config = put("config.v1+json", config_of(layers, **inner))
    manifest = put("manifest.v1+json", {"schemaVersion": 2, "config": config, "layers": packed})
    attestation = {**put("manifest.v1+json", {"config": config}), "annotations": {"vnd.docker.reference.type": "x"}}
    absent = {**manifest, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "arm64"}}
    inner_index = put("index.v1+json", {"manifests": [manifest, attestation, absent]})
    named = {**inner_index, "annotations": {"io.containerd.image.name": tag}}
    members["index.json"] = json.dumps({"manifests": [named]}).encode()
    path.write_bytes(layer(members))
    return path


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def python_layer() -> bytes:
    """Return a layer with the distribution's Python and the libraries that it needs."""
    files: dict[str, Any] = {"usr": None, "bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "etc": None}
    python = Path("/usr/bin/python3").resolve()
    standard = Path("/usr/lib", python.name)
    modules = [each for each in standard.rglob("*") if each.is_file() and "test" not in each.parts[4:5]]
    programs = [python, Path("/usr/bin/dash").resolve(), *(each for each in modules if each.suffix == ".so")]
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = {
        word for line in said.splitlines() for word in line.split() if word.startswith("/") and ":" not in word
    }
    for path in [*programs[:2], *modules]:
        files[str(path)[1:]] = path.read_bytes()
    for library in libraries:
        place = library if library.startswith("/usr") else f"/usr{library}"
        files[place[1:]] = Path(library).read_bytes()
    files["usr/bin/python3"] = python.name
    files["usr/bin/sh"] = "dash"
    return layer(files)
