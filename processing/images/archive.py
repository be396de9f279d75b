"""Patches images: adds the container shim to an archive of an image, without a daemon and without a registry.

The names and keywords of `get_image_config`, `get_new_env_vars` and `mutate_image` are those of sagemaker-shim. There
they change an image in a registry with crane; here `repo_tag` is an archive, as `docker save` writes.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import shlex
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from processing._utils.validation import MAPPING, NAME, PATH, TEXT, Kind, one_of, require, require_all, shown
from processing.exceptions import ConfigurationError
from processing.images.archive_layout import ImageArchive, NewLayer, StoredImage, write_archive
from processing.images.file_tree import FileTree
from processing.images.interpreter import DEFAULT_PATH, ImagePython, find_interpreter, inspect_interpreter
from processing.images.zipapp import OLDEST, botocore_for, build_zipapp

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

SHIM_PATH = "/sagemaker-shim"
"""The shim in an image."""
OWN_PREFIX, THEIR_PREFIX = "PROCESSING_SHIM_", "GRAND_CHALLENGE_COMPONENT_"
_ENTRYPOINT, _COMMAND, _USER = "ENTRYPOINT_B64J", "CMD_B64J", "USER"
_FOLDERS = {"input": 0o777, "output": 0o777, "tmp": 0o1777}
_MACHINES = {"amd64": 62, "arm64": 183}
"""The number of an architecture in the head of an executable file."""


_VERSION = Kind(
    "letters, digits and -._ as in a tag",
    lambda value: TEXT.accepts(value) and bool(re.fullmatch(r"[\w.-]{1,100}", value)),
)
_REFERENCE = Kind(
    "a name such as team/program:1",
    lambda value: TEXT.accepts(value) and bool(re.fullmatch(r"[a-z0-9][\w.:/-]*", value, re.ASCII)),
)


@frozen
class PatchedImage:
    """An image with the shim.

    Attributes:
        path: the new archive.
        tag: the image's name in it; None if it has none.
        digest: the SHA-256 of the new layer in hexadecimal digits.
        interpreter: the path of Python in the image; None with the static shim.
        carries_botocore: whether the shim carries a botocore of its own.
    """

    path: Path
    tag: str | None
    digest: str
    interpreter: str | None
    carries_botocore: bool


def get_image_config(*, repo_tag: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration of an image.

    Args:
        repo_tag: the archive of the image, in the form of Docker or OCI. It may be compressed with gzip, bzip2 or xz.

    Raises:
        ConfigurationError: the archive is missing or damaged, or has not exactly one image.
    """
    with ImageArchive(_archive("repo_tag", repo_tag), parameter="repo_tag") as archive:
        return copy.deepcopy(dict(archive.image.config))


def get_new_env_vars(*, existing_config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that keep an image's entrypoint, command and user for the shim.

    A patched image keeps those of the image before it.

    Args:
        existing_config: the configuration of the image, from `get_image_config`.

    Raises:
        ConfigurationError: the configuration is not a dictionary, or its fields have the wrong types.
    """
    require("existing_config", existing_config, MAPPING)
    entrypoint, command, user = _original(existing_config)
    return {
        THEIR_PREFIX + _COMMAND: _encode(command),
        THEIR_PREFIX + _ENTRYPOINT: _encode(entrypoint),
        THEIR_PREFIX + _USER: user or "0:0",
    }


def mutate_image(
    *,
    repo_tag: str | os.PathLike[str],
    env_vars: Mapping[str, str],
    version: str,
    output: str | os.PathLike[str] | None = None,
    shim: str = "zipapp",
    binary: str | os.PathLike[str] | None = None,
) -> str:
    """Add the shim to an image, and return the path of the new archive.

    Args:
        repo_tag: the archive of the image.
        env_vars: the variables of the new image, such as those of `get_new_env_vars`.
        version: the end of the new image's name: `NAME-sagemaker-shim-VERSION`.
        output: the new archive. By default it has the name of the image's archive with `-sagemaker-shim-VERSION`.
        shim: "zipapp" for an image with Python 3.8 or later, or "static".
        binary: the static shim that `scripts/build-shim` made; required with "static".

    Raises:
        ConfigurationError: the archive or an argument is not valid. There is no new archive then.
    """
    source = _archive("repo_tag", repo_tag)
    require("version", version, _VERSION)
    ending = f"-sagemaker-shim-{version}"
    target = source.with_name(f"{source.name.partition('.tar')[0]}{ending}.tar") if output is None else output
    return str(_patch(("repo_tag", source), target, env_vars, ending, shim=shim, binary=binary).path)


def patch_image(
    image: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    shim: str = "zipapp",
    binary: str | os.PathLike[str] | None = None,
    tag: str | None = None,
    platform: str | None = None,
    python: str | None = None,
) -> PatchedImage:
    """Add the shim to an image, with variables that keep its entrypoint and command.

    Args:
        image: the archive of the image, in the form of Docker or OCI. It may be compressed with gzip, bzip2 or xz.
        output: the new archive. It appears whole or not at all, and replaces a file of that name.
        shim: "zipapp" for an image with Python 3.8 or later, or "static".
        binary: the static shim that `scripts/build-shim` made; required with "static".
        tag: the name of the new image. By default it has the name of the image with `-shim`.
        platform: the platform of the image, such as `linux/amd64`, if the archive has several.
        python: the path of Python in the image. By default the first in the image's PATH.

    Raises:
        ConfigurationError: the archive or an argument is not valid. There is no new archive then.
    """
    return _patch(
        ("image", _archive("image", image)),
        output,
        None,
        "-shim",
        shim=shim,
        binary=binary,
        tag=tag,
        platform=platform,
        python=python,
    )


def registry_commands(image: str, tag: str | None = None) -> str:
    """Return commands that patch an image of a registry with crane, skopeo or docker.

    Args:
        image: the image's name.
        tag: the new image's name; by default the name with `-shim`.
    """
    require("image", image, NAME)
    require("tag", tag, NAME, optional=True)
    image, new = (shlex.quote(each) for each in (image, tag or _new_tag(image, "-shim")))
    patch = f"processing-shim patch image.tar --output patched.tar --tag {new}"
    return (
        f"# with crane\ncrane pull {image} image.tar\n{patch}\ncrane push patched.tar {new}\n"
        f"# with skopeo\nskopeo copy docker://{image} docker-archive:image.tar\n{patch}\n"
        f"skopeo copy docker-archive:patched.tar docker://{new}\n"
        f"# with docker\ndocker pull {image}\ndocker save {image} -o image.tar\n{patch}\n"
        f"docker load -i patched.tar\ndocker push {new}"
    )


def _patch(
    source: tuple[str, Path],
    output: str | os.PathLike[str],
    env_vars: Mapping[str, str] | None,
    ending: str,
    *,
    shim: str,
    binary: str | os.PathLike[str] | None,
    tag: str | None = None,
    platform: str | None = None,
    python: str | None = None,
) -> PatchedImage:
    require("shim", shim, one_of("zipapp", "static"))
    require("output", output, PATH)
    require("binary", binary, PATH, optional=True)
    require("env_vars", env_vars, MAPPING, optional=True)
    require_all(
        {"tag": _REFERENCE, "platform": NAME, "python": NAME}, {"tag": tag, "platform": platform, "python": python}
    )
    target = Path(output)
    if not target.name:
        raise ConfigurationError(f"output: {shown(output)} is a folder; name a file in it")
    variables = _check_variables(env_vars)
    with ImageArchive(source[1], platform, source[0]) as archive:
        image = archive.verified()
        tree = _files(archive, image, needed=shim == "zipapp" and python is None)
        found = _interpreter(tree, archive, python) if shim == "zipapp" else None
        program = _program(found) if found is not None else _binary(binary, image.config)
        layer = _layer(tree, program, archive.parameter)
        new_tag = tag or (_new_tag(image.tags[0], ending) if image.tags else None)
        config = _new_config(image.config, variables or _own_variables(image.config), layer)
        write_archive(target, archive, image, config, layer, new_tag)
    carries = found is not None and not found.has_botocore
    return PatchedImage(target, new_tag, _sha256(layer), None if found is None else found.path, carries)


def _archive(parameter: str, value: str | os.PathLike[str]) -> Path:
    require(parameter, value, PATH)
    path = Path(value)
    try:
        missing = not path.stat().st_mode & stat.S_IFREG
    except (OSError, ValueError):
        missing = True
    if missing:
        commands = f":\n{registry_commands(str(value))}" if NAME.accepts(str(value)) else ""
        raise ConfigurationError(
            f"{parameter}: there is no file {shown(value)}; save the image to an archive first{commands}"
        )
    return path


def _check_variables(env_vars: Mapping[str, str] | None) -> dict[str, str]:
    for name, value in (env_vars or {}).items():
        require(f"env_vars[{name!r}]", name, NAME)
        require(f"env_vars[{name!r}]", value, TEXT)
        if "=" in name or "\0" in value:
            raise ConfigurationError(f"env_vars[{name!r}]: must be a string, with a name without '='")
    return dict(env_vars or {})


def _own_variables(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables with our own names, which switch nothing of Grand Challenge on."""
    entrypoint, command, user = _original(config)
    variables = {OWN_PREFIX + _ENTRYPOINT: _encode(entrypoint), OWN_PREFIX + _COMMAND: _encode(command)}
    return {**variables, OWN_PREFIX + _USER: user} if user else variables


def _original(config: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """Return the entrypoint, the command and the user of an image, before it was patched if it was."""
    inner = config.get("config") or {}
    require("existing_config['config']", inner, MAPPING)
    variables = _environment(inner)
    user = inner.get("User") or ""
    require("existing_config['config']['User']", user, one_of("") if not user else NAME)
    values = []
    for name, saved in (("Entrypoint", _ENTRYPOINT), ("Cmd", _COMMAND)):
        value = inner.get(name)
        kept = variables.get(OWN_PREFIX + saved) or variables.get(THEIR_PREFIX + saved)
        if inner.get("Entrypoint") == [SHIM_PATH] and kept:
            value = _decode(name, kept)
        if not (value is None or isinstance(value, str) or _is_words(value)):
            raise ConfigurationError(f"existing_config['config']['{name}']: must be a list of strings")
        values.append(value)
    return values[0], values[1], user


def _environment(inner: Mapping[str, Any]) -> dict[str, str]:
    listed = inner.get("Env") or []
    if not _is_words(listed):
        raise ConfigurationError("existing_config['config']['Env']: must be a list of strings")
    return {name: value for name, _, value in (each.partition("=") for each in listed)}


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _new_config(config: Mapping[str, Any], variables: Mapping[str, str], layer: bytes) -> dict[str, Any]:
    new = copy.deepcopy(dict(config))
    inner = new["config"] = dict(new.get("config") or {})
    merged = {**_environment(inner), **variables}
    inner["Env"] = [f"{name}={value}" for name, value in merged.items()]
    inner["Entrypoint"] = [SHIM_PATH]
    inner.pop("Cmd", None)
    new["rootfs"]["diff_ids"].append(f"sha256:{_sha256(layer)}")
    if isinstance(new.get("history"), list):
        step = {"created_by": "processing-shim patch", "comment": "the container shim"}
        # The image's own time: the same image gives the same configuration.
        new["history"].append({**({"created": new["created"]} if "created" in new else {}), **step})
    return new


def _files(archive: ImageArchive, image: StoredImage, *, needed: bool) -> FileTree | None:
    """Return the files of an image; None if a layer's compression is unknown and they are not needed."""
    tree = FileTree()
    for number, layer in enumerate(image.layers):
        if layer.media_type.endswith("zstd"):
            if not needed:
                return None
            raise ConfigurationError(
                f"{archive.parameter}: layer {number} of {archive.path} is compressed with zstd, so Python cannot be "
                f"found in it; name it in python, such as /usr/bin/python3, or use the static shim"
            )
        with archive.damage(), archive.open(layer) as opened, tarfile.open(fileobj=opened, mode="r:*") as files:
            tree.apply(files)
    return tree


def _interpreter(tree: FileTree | None, archive: ImageArchive, python: str | None) -> ImagePython:
    if tree is None:
        # The version is unknown, so the shim carries a botocore for every version.
        return ImagePython(str(python), OLDEST, has_botocore=False)
    if python is not None:
        found = inspect_interpreter(tree, python) if python.startswith("/") else None
    else:
        found = find_interpreter(
            tree, _environment(archive.image.config.get("config") or {}).get("PATH") or DEFAULT_PATH
        )
    if found is None:
        where = (
            f"python: the image has no Python at {python}"
            if python
            else f"{archive.parameter}: it has no Python in its PATH"
        )
        raise ConfigurationError(f"{where}; name another in python, or use the static shim")
    if found.version < OLDEST:
        version = f"{found.version[0]}.{found.version[1]}"
        raise ConfigurationError(
            f"{archive.parameter}: its Python is {version}, and the shim needs 3.8; use the static shim"
        )
    return found


def _program(found: ImagePython) -> bytes:
    # -I: variables and modules of the image's program do not reach the shim.
    return build_zipapp(f"{found.path} -I", None if found.has_botocore else botocore_for(found.version))


def _binary(binary: str | os.PathLike[str] | None, config: Mapping[str, Any]) -> bytes:
    if binary is None:
        raise ConfigurationError("binary: the static shim is needed; scripts/build-shim makes one")
    try:
        data = Path(binary).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"binary: {error}; scripts/build-shim makes one") from error
    if data[:4] != b"\x7fELF":
        raise ConfigurationError(f"binary: {binary} is no executable file; scripts/build-shim makes one")
    expected = _MACHINES.get(str(config.get("architecture")))
    if expected is not None and int.from_bytes(data[18:20], "little") != expected:
        raise ConfigurationError(
            f"binary: {binary} is not for {config['architecture']}, the image's architecture; build it on such one"
        )
    return data


def _layer(tree: FileTree | None, program: bytes, parameter: str) -> bytes:
    layer = NewLayer()
    for name, mode in _FOLDERS.items():
        known = tree.entry(f"/{name}") if tree is not None else None
        if known is not None and not known.is_folder:
            target = tree.find(f"/{name}") if tree is not None else None
            if target is None or not stat.S_ISDIR(target.mode):
                raise ConfigurationError(f"{parameter}: its /{name} is not a folder, and the shim needs one; remove it")
            continue  # a link to a folder stays one
        layer.add_folder(name, mode)
    layer.add_file(SHIM_PATH[1:], program, 0o555)
    return layer.close()


def _new_tag(image: str, ending: str) -> str:
    """Return an image's name with another tag; a digest has no place in it."""
    name = image.partition("@")[0]
    return f"{name}{ending}" if ":" in name.rpartition("/")[2] else f"{name}:latest{ending}"


def _encode(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode("ascii")


def _decode(name: str, text: str) -> Any:
    try:
        return json.loads(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise ConfigurationError(
            f"existing_config['config']['{name}']: its saved value is damaged ({error})"
        ) from error


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
