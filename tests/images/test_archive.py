"""Archives of images, patched: the new image, and the errors of bad ones."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import random
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from image_archives import config_of, digest, docker_archive, layer, oci_archive
from processing import ConfigurationError
from processing.cli.shim import main
from processing.container.shim.settings import read_settings
from processing.images import get_image_config, get_new_env_vars, mutate_image, patch_image
from processing.images.archive_layout import ImageArchive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON = {
    "usr/bin/python3": "python3.11",
    "usr/bin/python3.11": b"\x7fELF",
    "usr/lib/python3.11/os.py": b"",
    "usr/lib/python3/dist-packages/botocore/__init__.py": b"",
    "bin": "usr/bin",
}
"""The files of an image with Python and boto3."""
LAYERS = [layer(PYTHON), layer({"program": b"#!/bin/sh\n"})]
IMAGE: dict[str, Any] = {"Entrypoint": ["/program"], "Cmd": ["a"], "Env": ["PATH=/bin", "X=1"], "User": "app"}
FORMS = (docker_archive, oci_archive)


def _blobs(path: Path) -> dict[str, bytes]:
    """Return the members of an archive."""
    with tarfile.open(path) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}  # type: ignore[union-attr]


def _top_layer(path: Path) -> dict[str, tarfile.TarInfo]:
    with ImageArchive(path) as archive, archive.open(archive.image.layers[-1]) as opened:
        return {each.name: each for each in tarfile.open(fileobj=opened)}


@pytest.mark.parametrize("form", FORMS)
def test_a_patched_image_keeps_its_command_for_the_shim(form: Callable[..., Path], tmp_path: Path) -> None:
    """The shim is the new entrypoint; the image's entrypoint, command and user are in variables, all else stays."""
    done = patch_image(form(tmp_path / "image.tar", LAYERS, **IMAGE), tmp_path / "new.tar")
    config = get_image_config(repo_tag=tmp_path / "new.tar")
    assert config["config"]["Entrypoint"] == ["/sagemaker-shim"]
    assert "Cmd" not in config["config"]
    assert config["config"]["User"] == "app"
    variables = dict(each.split("=", 1) for each in config["config"]["Env"])
    assert variables["PATH"] == "/bin"
    settings = read_settings(variables)
    assert (settings.entrypoint, settings.command, settings.user) == (("/program",), ("a",), "app")
    assert settings.linked_input_parent is None  # nothing of Grand Challenge is switched on
    assert (done.tag, done.interpreter, done.carries_botocore) == ("prog:1-shim", "/bin/python3", False)
    files = _top_layer(tmp_path / "new.tar")
    assert {name: oct(each.mode) for name, each in files.items()} == {
        "input": "0o777",
        "output": "0o777",
        "tmp": "0o1777",
        "sagemaker-shim": "0o555",
    }


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_in_the_new_archive(form: Callable[..., Path], tmp_path: Path) -> None:
    """Tools for Docker's form and for the OCI form find the same blobs, each below its own digest."""
    patch_image(form(tmp_path / "image.tar", [*LAYERS, LAYERS[0]], **IMAGE), tmp_path / "new.tar")
    members = _blobs(tmp_path / "new.tar")
    blobs = {name: data for name, data in members.items() if name.startswith("blobs/")}
    assert all(name == f"blobs/sha256/{digest(data)}" for name, data in blobs.items())
    (docker,) = json.loads(members["manifest.json"])
    (entry,) = json.loads(members["index.json"])["manifests"]
    manifest = json.loads(members["blobs/" + entry["digest"].replace(":", "/")])
    assert docker["RepoTags"] == ["prog:1-shim"]
    assert entry["annotations"]["io.containerd.image.name"] == "prog:1-shim"
    assert [f"blobs/{each['digest'].replace(':', '/')}" for each in manifest["layers"]] == docker["Layers"]
    config = json.loads(members[docker["Config"]])
    unpacked = [members[name] for name in docker["Layers"]]
    unpacked = [gzip.decompress(each) if each.startswith(b"\x1f\x8b") else each for each in unpacked]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest(each)}" for each in unpacked]
    kinds = [each["mediaType"].rpartition("+")[2] == "gzip" for each in manifest["layers"]]
    assert kinds == [members[name].startswith(b"\x1f\x8b") for name in docker["Layers"]]


def test_the_same_image_gives_the_same_archive(tmp_path: Path) -> None:
    """Layers and configuration contain no time and no name of this machine."""
    source = docker_archive(tmp_path / "image.tar", LAYERS, **IMAGE)
    for name in ("a.tar", "b.tar"):
        patch_image(source, tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_patched_image_can_be_patched_again(tmp_path: Path) -> None:
    """The command of the first image is kept, not the shim as its own program."""
    patch_image(docker_archive(tmp_path / "image.tar", LAYERS, **IMAGE), tmp_path / "one.tar")
    patch_image(tmp_path / "one.tar", tmp_path / "one.tar", tag="again:2")
    config = get_image_config(repo_tag=tmp_path / "one.tar")
    settings = read_settings(dict(each.split("=", 1) for each in config["config"]["Env"]))
    assert (settings.entrypoint, settings.command) == (("/program",), ("a",))


def test_the_functions_of_sagemaker_shim_patch_an_archive(tmp_path: Path) -> None:
    """The variables and the name of the new image are those of sagemaker-shim."""
    source = docker_archive(tmp_path / "image.tar", LAYERS, Cmd=["sh"], Env=["PATH=/usr/bin"])
    variables = get_new_env_vars(existing_config=get_image_config(repo_tag=str(source)))
    assert variables == {
        "GRAND_CHALLENGE_COMPONENT_CMD_B64J": "WyJzaCJd",
        "GRAND_CHALLENGE_COMPONENT_ENTRYPOINT_B64J": "bnVsbA==",
        "GRAND_CHALLENGE_COMPONENT_USER": "0:0",
    }
    new = mutate_image(repo_tag=source, env_vars=variables, version="0.8.3")
    assert new == str(tmp_path / "image-sagemaker-shim-0.8.3.tar")
    config = get_image_config(repo_tag=new)["config"]
    assert set(config["Env"]) == {"PATH=/usr/bin", *(f"{name}={value}" for name, value in variables.items())}
    with ImageArchive(tmp_path / "image-sagemaker-shim-0.8.3.tar") as archive:
        assert archive.image.tags == ("prog:1-sagemaker-shim-0.8.3",)


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_an_archive_may_be_compressed(module: Any, tmp_path: Path) -> None:
    """gzip, bzip2 and xz are recognized by the content."""
    packed = tmp_path / "image.tar.packed"
    packed.write_bytes(module.compress(docker_archive(tmp_path / "image.tar", LAYERS, **IMAGE).read_bytes()))
    patch_image(packed, tmp_path / "new.tar")
    patch_image(tmp_path / "image.tar", tmp_path / "same.tar")
    assert (tmp_path / "new.tar").read_bytes() == (tmp_path / "same.tar").read_bytes()


REMOVED: dict[str, dict[str, Any]] = {
    "a file": {"usr/bin/.wh.python3": b""},
    "a folder": {"usr/.wh.bin": b""},
    "the content of a folder": {"usr/bin/.wh..wh..opq": b""},
    "a folder that became a file": {"usr/bin": b""},
    "a link that leads to itself": {"usr/bin/python3": "python3"},
    "a file that no one may execute": {"usr/bin/python3": None},
}


@pytest.mark.parametrize("case", REMOVED)
def test_removed_files_are_not_found(case: str, tmp_path: Path) -> None:
    """A layer can remove the Python of the layers below it."""
    source = docker_archive(tmp_path / "image.tar", [*LAYERS, layer(REMOVED[case])], **IMAGE)
    with pytest.raises(ConfigurationError, match=r"^image: it has no Python in its PATH; .* static shim$"):
        patch_image(source, tmp_path / "new.tar")
    assert not (tmp_path / "new.tar").exists()


def test_files_of_an_emptied_folder_come_back(tmp_path: Path) -> None:
    """A layer empties a folder of the layers below, and not of its own files, in any order."""
    again = layer({"usr/bin/python3": "python3.11", "usr/bin/python3.11": b"", "usr/bin/.wh..wh..opq": b""})
    source = docker_archive(tmp_path / "image.tar", [*LAYERS, again], **IMAGE)
    assert patch_image(source, tmp_path / "new.tar").interpreter == "/bin/python3"


VENV = {"venv/bin/python": "python3", "venv/bin/python3": "/usr/bin/python3", "venv/pyvenv.cfg": b""}
INTERPRETERS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    "of a distribution": ({}, "/usr/bin", "/usr/bin/python3", False),
    "of a virtual environment without boto3": (VENV, "/venv/bin:/usr/bin", "/venv/bin/python3", True),
    "of a virtual environment with boto3": (
        {**VENV, "venv/lib/python3.11/site-packages/botocore/__init__.py": b""},
        "/venv/bin:/usr/bin",
        "/venv/bin/python3",
        False,
    ),
    "without a version in its name": (
        {"opt/bin/python": b"\x7fELF", "opt/lib/python3.12/os.py": b"", "opt/lib/python3.11/site-packages/x": b""},
        "/opt/bin",
        "/opt/bin/python",
        True,
    ),
}


@pytest.mark.parametrize("case", INTERPRETERS)
def test_python_is_the_first_in_the_search_path(case: str, tmp_path: Path) -> None:
    """The shim starts the Python that the image's program would, and carries botocore if that has none."""
    files, path, expected, carries = INTERPRETERS[case]
    source = docker_archive(tmp_path / "image.tar", [*LAYERS, layer(files)], Env=[f"PATH={path}"])
    done = patch_image(source, tmp_path / "new.tar")
    assert (done.interpreter, done.carries_botocore) == (expected, carries)
    assert f"#!{expected} -I\n".encode() in _blobs(tmp_path / "new.tar")[f"blobs/sha256/{done.digest}"]


def test_an_old_python_needs_the_static_shim(tmp_path: Path) -> None:
    """A Python that cannot run the shim is an error before the image runs."""
    old = layer({"usr/bin/python3": "python3.6", "usr/bin/python3.6": b""})
    with pytest.raises(
        ConfigurationError, match=r"^image: its Python is 3\.6, and the shim needs 3\.8; use the static"
    ):
        patch_image(docker_archive(tmp_path / "image.tar", [old], Env=["PATH=/usr/bin"]), tmp_path / "new.tar")


def test_a_link_in_place_of_a_folder_stays(tmp_path: Path) -> None:
    """An image may have its input folder on another disk; a link to nothing is an error."""
    linked = layer({"input": "data/in", "data/in": None, "output": "nowhere"})
    source = docker_archive(tmp_path / "image.tar", [*LAYERS, linked], **IMAGE)
    with pytest.raises(ConfigurationError, match=r"^image: its /output is not a folder"):
        patch_image(source, tmp_path / "new.tar")
    linked = layer({"input": "data/in", "data/in": None})
    patch_image(docker_archive(tmp_path / "image.tar", [*LAYERS, linked], **IMAGE), tmp_path / "new.tar")
    assert "input" not in _top_layer(tmp_path / "new.tar")


BAD_BINARIES = {
    "that is not named": (None, "binary: the static shim is needed"),
    "that is missing": ("absent", "binary: .*No such file"),
    "that is a script": (b"#!/bin/sh", "binary: .* is no executable file"),
    "for another machine": (b"\x7fELF" + bytes(14) + b"\xb7\x00", "binary: .* is not for amd64"),
}


@pytest.mark.parametrize("case", BAD_BINARIES)
def test_a_static_shim_has_to_fit_the_image(case: str, tmp_path: Path) -> None:
    """A file that the image could not execute is an error."""
    binary, message = BAD_BINARIES[case]
    if isinstance(binary, bytes):
        (tmp_path / "absent").write_bytes(binary)
    place = None if binary is None else tmp_path / "absent"
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        patch_image(docker_archive(tmp_path / "i.tar", LAYERS), tmp_path / "new.tar", shim="static", binary=place)


def test_the_static_shim_needs_no_python(tmp_path: Path) -> None:
    """An image without files gets the binary as it is."""
    (tmp_path / "shim").write_bytes(b"\x7fELF" + bytes(14) + b"\x3e\x00")
    patch_image(docker_archive(tmp_path / "i.tar", []), tmp_path / "new.tar", shim="static", binary=tmp_path / "shim")
    assert _top_layer(tmp_path / "new.tar")["sagemaker-shim"].size == 20


def _edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Change the members of an archive."""
    members: dict[str, Any] = dict(_blobs(path))
    edit(members)
    path.write_bytes(layer(members))
    return path


def _set_config(members: dict[str, Any], **fields: Any) -> None:
    manifest = json.loads(members["manifest.json"])
    config = {**json.loads(members[manifest[0]["Config"]]), **fields}
    members[manifest[0]["Config"]] = json.dumps(config).encode()


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no manifest": (lambda m: m.pop("manifest.json"), "neither manifest.json nor index.json"),
    "two images": (lambda m: m.update({"manifest.json": b"[{}, {}]"}), "has 2 images"),
    "no JSON": (lambda m: m.update({"manifest.json": b"[{"}), "manifest.json is not JSON"),
    "deep JSON": (lambda m: m.update({"manifest.json": b"[" * 100_000}), "manifest.json is not JSON"),
    "another type": (lambda m: m.update({"manifest.json": b'"x"'}), "has no images"),
    "no layer": (lambda m: m.pop(f"{0:064d}/layer.tar"), "it has no 0000"),
    "too few identifiers": (lambda m: _set_config(m, rootfs={}), "it has 0 layers|names 0"),
    "another layer": (lambda m: m.update({f"{1:064d}/layer.tar": LAYERS[0]}), "has the digest"),
    "no configuration": (lambda m: m.update({"manifest.json": b'[{"Config": 1}]'}), "it has no 1"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_archive_is_refused(case: str, tmp_path: Path) -> None:
    """The error tells the damage and the remedy, and there is no new archive."""
    edit, message = DAMAGE[case]
    source = _edited(docker_archive(tmp_path / "image.tar", LAYERS, **IMAGE), edit)
    with pytest.raises(ConfigurationError, match=rf"^image: .*({message}).*; save the image again"):
        patch_image(source, tmp_path / "new.tar")
    assert [each.name for each in tmp_path.iterdir()] == ["image.tar"]


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_with_any_wrong_byte_is_refused_or_the_same(form: Callable[..., Path], tmp_path: Path) -> None:
    """A cut or a changed byte gives an error, or an image with the same layers; never another exception."""
    good = form(tmp_path / "image.tar", LAYERS, **IMAGE).read_bytes()
    patch_image(tmp_path / "image.tar", tmp_path / "new.tar")
    layers = get_image_config(repo_tag=tmp_path / "new.tar")["rootfs"]["diff_ids"][:-1]
    chance = random.Random(16)
    refused = 0
    for number in range(150):
        place = chance.randrange(len(good))
        bad = good[:place] if number % 3 == 0 else good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]
        (tmp_path / "image.tar").write_bytes(bad)
        (tmp_path / "new.tar").unlink(missing_ok=True)
        try:
            patch_image(tmp_path / "image.tar", tmp_path / "new.tar")
        except ConfigurationError:
            refused += 1
            assert not (tmp_path / "new.tar").exists()
        else:
            assert get_image_config(repo_tag=tmp_path / "new.tar")["rootfs"]["diff_ids"][:-1] == layers
    assert refused > 40


def test_an_archive_of_several_platforms_needs_a_choice(tmp_path: Path) -> None:
    """The error names the platforms; platform= chooses one."""
    members: dict[str, Any] = {}
    entries = []
    for machine in ("amd64", "arm64"):
        config = json.dumps({**config_of([]), "architecture": machine}).encode()
        manifest = json.dumps({"config": {"digest": f"sha256:{digest(config)}"}, "layers": []}).encode()
        for data in (config, manifest):
            members[f"blobs/sha256/{digest(data)}"] = data
        entries.append({"digest": f"sha256:{digest(manifest)}", "platform": {"os": "linux", "architecture": machine}})
    members["index.json"] = json.dumps({"manifests": entries}).encode()
    source = tmp_path / "image.tar"
    source.write_bytes(layer(members))
    (tmp_path / "shim").write_bytes(b"\x7fELF" + bytes(14) + b"\x3e\x00")
    with pytest.raises(ConfigurationError, match=r"linux/amd64, linux/arm64.*name a platform"):
        patch_image(source, tmp_path / "new.tar", shim="static", binary=tmp_path / "shim")
    patch_image(source, tmp_path / "new.tar", shim="static", binary=tmp_path / "shim", platform="linux/amd64")
    assert get_image_config(repo_tag=tmp_path / "new.tar")["architecture"] == "amd64"


def test_a_folder_that_cannot_be_written_to_leaves_nothing(tmp_path: Path) -> None:
    """The new archive appears whole or not at all, and a former one stays."""
    source = docker_archive(tmp_path / "image.tar", LAYERS, **IMAGE)
    with pytest.raises(ConfigurationError, match=r"^output: .* cannot be written"):
        patch_image(source, tmp_path / "absent/new.tar")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=r"^output: .* cannot be written"):
        patch_image(source, tmp_path / "folder")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "image.tar"]


def test_the_command_patches_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes the archive, tells the image's name, and exits with 2 after an error."""
    source = docker_archive(tmp_path / "image.tar", LAYERS, **IMAGE)
    assert main(["patch", str(source), "--output", str(tmp_path / "new.tar"), "--tag", "new:2"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/new.tar: new:2\n"
    assert main(["patch", str(tmp_path / "absent.tar")]) == 2
    assert main(["patch", str(tmp_path / "absent.tar"), "-o", "x.tar"]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_an_image_of_a_registry_gets_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """A name in place of a file prints the commands of crane, skopeo and docker."""
    assert main(["patch", "registry.example:5000/team/prog:1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "crane pull registry.example:5000/team/prog:1 image.tar" in lines
    assert "processing-shim patch image.tar --output patched.tar --tag registry.example:5000/team/prog:1-shim" in lines
    assert "skopeo copy docker-archive:patched.tar docker://registry.example:5000/team/prog:1-shim" in lines
    assert "docker push registry.example:5000/team/prog:1-shim" in lines
    assert main(["patch", "team/prog@sha256:00"]) == 0
    assert "crane push patched.tar team/prog:latest-shim" in capsys.readouterr().out


def test_the_error_names_the_parameter(tmp_path: Path) -> None:
    """Functions with another name for the archive use it in their errors."""
    (tmp_path / "image.tar").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match=r"^repo_tag: .* is damaged"):
        get_image_config(repo_tag=tmp_path / "image.tar")
    with pytest.raises(ConfigurationError, match=r"^repo_tag: there is no file .team/prog.; .*\n# with crane"):
        mutate_image(repo_tag="team/prog", env_vars={}, version="1")
    with pytest.raises(ConfigurationError, match=r"^env_vars\['A'\]: must be a string"):
        mutate_image(repo_tag=docker_archive(tmp_path / "i.tar", LAYERS), env_vars={"A": 1}, version="1")  # type: ignore[dict-item]


BAD_CONFIGS = {
    "Entrypoint": ({"Entrypoint": [1]}, r"\['Entrypoint'\]"),
    "Env": ({"Env": "x"}, r"\['Env'\]"),
    "User": ({"User": 5}, r"\['User'\]"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_wrong_configuration_is_named(case: str) -> None:
    """A field of the wrong type is an error that names it."""
    inner, field = BAD_CONFIGS[case]
    with pytest.raises(ConfigurationError, match=rf"existing_config\['config'\]{field}"):
        get_new_env_vars(existing_config={"config": inner})


def test_a_layer_in_zstd_needs_the_path_of_python(tmp_path: Path) -> None:
    """Layers that cannot be read are copied; only the search for Python needs them."""
    source = docker_archive(tmp_path / "image.tar", LAYERS, **IMAGE)

    def pack(members: dict[str, Any]) -> None:
        members[f"{0:064d}/layer.tar"] = b"\x28\xb5\x2f\xfd" + bytes(20)

    (tmp_path / "shim").write_bytes(b"\x7fELF" + bytes(14) + b"\x3e\x00")
    _edited(source, pack)
    with pytest.raises(ConfigurationError, match=r"^image: layer 0 of .* zstd, .* name it in python"):
        patch_image(source, tmp_path / "new.tar")
    patch_image(source, tmp_path / "new.tar", shim="static", binary=tmp_path / "shim")
    packed = _blobs(tmp_path / "new.tar")
    assert hashlib.sha256(b"\x28\xb5\x2f\xfd" + bytes(20)).hexdigest() in "".join(packed)
