"""`processing.images`: URIs of AWS's images from our own table, and from the files of an installed sagemaker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import images
from processing.exceptions import ConfigurationError
from processing.images import table
from processing.images.releases import fill_pattern, newest_first
from processing.images.sagemaker import read_releases

if TYPE_CHECKING:
    import pathlib

Install = Callable[[str, str, object], None]


@pytest.fixture
def installed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that installs a `sagemaker-core` of some version, with one file of images, for this test."""

    def install(version: str, framework: str, document: object) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        described = tmp_path / f"sagemaker_core-{version}.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sagemaker-core\nVersion: {version}\n")
        folder = tmp_path / "sagemaker" / "core" / "image_uri_config"
        folder.mkdir(parents=True)
        (tmp_path / "sagemaker" / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (folder / f"{framework}.json").write_text(json.dumps(document))
        (folder / "instance_gpu_info.json").write_text("{}")
        table.newer_folders.cache_clear()

    yield install
    monkeypatch.undo()
    table.newer_folders.cache_clear()


NEWER = {
    "training": {
        "version_aliases": {"9.9": "9.9-1"},
        "versions": {
            "9.9-1": {
                "processors": ["cpu"],
                "py_versions": ["py3"],
                "registries": {"eu-west-1": "111122223333", "moon-west-1": "444455556666"},
                "repository": "sagemaker-scikit-learn",
            }
        },
    }
}


@pytest.mark.parametrize(
    ("arguments", "options", "uri"),
    [
        (
            ("sklearn", "1.2-1", "eu-west-1"),
            {},
            "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
        ),
        (
            ("pytorch", "2.8.0", "us-east-1"),
            {"py_version": "py312", "instance_type": "ml.g5.xlarge"},
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.8.0-gpu-py312",
        ),
        (
            ("pytorch", "2.8", "us-east-1"),
            {"py_version": "py312", "instance_type": "ml.m5.xlarge"},
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.8-cpu-py312",
        ),
        (
            ("tensorflow", "2.3", "us-west-2"),
            {"py_version": "py37", "instance_type": "ml.p4d.24xlarge"},
            "763104351884.dkr.ecr.us-west-2.amazonaws.com/tensorflow-training:2.3-gpu-py37-cu110-ubuntu18.04-v3",
        ),
        (
            ("huggingface", "4.28.1", "us-east-1"),
            {"base_framework_version": "pytorch2.0.0", "instance_type": "ml.p3.2xlarge"},
            (
                "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
                "huggingface-pytorch-training:2.0.0-transformers4.28.1-gpu-py310-cu118-ubuntu20.04"
            ),
        ),
        (
            ("xgboost", "1.7-1", "cn-north-1"),
            {"py_version": "py3"},
            "450853457545.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-xgboost:1.7-1",
        ),
        (
            ("sklearn", "1.2-1", "us-iso-east-1"),
            {},
            "833128469047.dkr.ecr.us-iso-east-1.c2s.ic.gov/sagemaker-scikit-learn:1.2-1-cpu-py3",
        ),
        (
            ("spark", "3.5", "eu-central-1"),
            {"py_version": "py39", "container_version": "v1"},
            "906073651304.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-spark-processing:3.5-cpu-py39-v1",
        ),
        (
            ("spark", "3.5", "eu-central-1"),
            {},
            "906073651304.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-spark-processing:3.5-cpu",
        ),
        (
            ("data-wrangler", "3.x", "us-east-1"),
            {"instance_type": "ml.m5.4xlarge"},
            "663277389841.dkr.ecr.us-east-1.amazonaws.com/sagemaker-data-wrangler-container:3.x",
        ),
        (
            ("sagemaker-base-python", "1.0", "us-east-1"),
            {"py_version": "38"},
            "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python-38:1.0",
        ),
        (
            ("model-monitor", None, "us-east-1"),
            {},
            "156813124566.dkr.ecr.us-east-1.amazonaws.com/sagemaker-model-monitor-analyzer",
        ),
    ],
)
def test_uris_are_those_that_sagemaker_gives(arguments: tuple[Any, ...], options: dict[str, Any], uri: str) -> None:
    """The account, the domain, the repository and each part of the tag are what sagemaker 2.257.7 returns."""
    assert images.image_uri(*arguments, **options) == uri


def test_the_newest_version_is_the_default() -> None:
    """Versions are compared by their numbers, not as text, and never by AWS's alias `latest` for a first generation."""
    newest = images.versions("xgboost")[0]
    assert images.image_uri("xgboost", None, "us-east-1").endswith(f"/sagemaker-xgboost:{newest}")
    assert newest_first(["1.9-0", "1.10-1", "2", "latest", "1.9-1"]) == ["2", "1.10-1", "1.9-1", "1.9-0", "latest"]


@pytest.mark.parametrize(
    ("instance_type", "processor"), [("local", "cpu"), ("local_gpu", "gpu"), ("ml.g6e.4xlarge", "gpu")]
)
def test_cpu_or_gpu_follows_the_instance_type(instance_type: str, processor: str) -> None:
    """Families that begin with p or g have a GPU, and so does `local_gpu`."""
    uri = images.image_uri("pytorch", "2.5.1", "us-east-1", instance_type=instance_type)
    assert uri.endswith(f"pytorch-training:2.5.1-{processor}-py311")


def test_py3_is_the_python_3_that_a_version_has() -> None:
    """v2's default `py3` is no Python of newer images; where there is one Python 3, that one is meant."""
    uri = images.image_uri("tensorflow", "2.19.0", "us-east-1", py_version="py3", instance_type="local")
    assert uri.endswith("tensorflow-training:2.19.0-cpu-py312")


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (
            ("sklern", "1.2-1", "us-east-1"),
            {},
            r"^framework: AWS has no 'sklern'; did you mean 'sklearn'\? .*autogluon",
        ),
        (
            ("sklearn", "1.2", "us-east-1"),
            {},
            r"^version: sklearn has no '1.2'; did you mean '1.2-1'\? .* 1.0-1, 0.23-1",
        ),
        (("sklearn", 1.2, "us-east-1"), {}, r"^version: sklearn has no 1.2; did you mean '1.2-1'"),
        (
            ("sklearn", "1.2-1", "eu-west-11"),
            {},
            r"^region: .*no 'eu-west-11'; did you mean 'eu-west-1'\? .*us-gov-west-1",
        ),
        (("sklearn", "1.2-1"), {}, r"^region: missing"),
        (("sklearn", "1.2-1", "us-east-1"), {"py_version": "py2"}, r"^py_version: sklearn 1.2-1 has no 'py2'.*: py3$"),
        (("spark", "3.5", "us-east-1"), {"py_version": "py3"}, r"^py_version: .*no 'py3'.*: py39, py312$"),
        (("pytorch", "1.4.0", "us-east-1"), {"instance_type": "local"}, r"^py_version: missing; .*: py2, py3, py36$"),
        (
            ("pytorch", "2.8", "us-east-1"),
            {},
            r"^instance_type: missing; pytorch 2.8.0 has different images for cpu and gpu",
        ),
        (
            ("pytorch", "2.8", "us-east-1"),
            {"instance_type": "m5.large"},
            r"^instance_type: must be such as 'ml.m5.xlarge'",
        ),
        (("pytorch", "2.8", "us-east-1"), {"image_scope": "trainig"}, r"^image_scope: .*did you mean 'training'\?"),
        (
            ("sklearn", "1.2-1", "us-east-1"),
            {"instance_type": "ml.g5.xlarge"},
            r"^instance_type: 'ml.g5.xlarge' needs an image for gpu; sklearn 1.2-1 has one for cpu only$",
        ),
        (
            ("huggingface", "4.28.1", "us-east-1"),
            {"base_framework_version": "pytorch2.1"},
            r"^base_framework_version: huggingface 4.28.1 has no 'pytorch2.1'; did you mean 'pytorch2.0.0'",
        ),
    ],
)
def test_an_unknown_value_is_an_error_that_lists_the_values(
    arguments: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    """Each error begins with the argument, suggests the closest value, and lists the available values."""
    with pytest.raises(ConfigurationError, match=said):
        images.image_uri(*arguments, **options)


def test_every_release_of_the_table_makes_uris() -> None:
    """Each release has a URI in each of its regions, for each processor and Python, with nothing left to fill in."""
    form = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.[a-z0-9.-]+/[a-z0-9-]+(:[A-Za-z0-9._-]+)?")
    for framework in images.frameworks():
        for release in table.releases(framework):
            for processor, pattern in release.tags.items():
                for python in release.pythons or (None,):
                    values = {"version": release.version, "base": "1.0", "py": python, "container": None}
                    name = f"{fill_pattern(release.repository, values)}:{fill_pattern(pattern, values)}".rstrip(":")
                    for region, account in release.accounts.items():
                        assert form.fullmatch(f"{account}.dkr.ecr.{region}.amazonaws.com/{name}"), (processor, name)


def test_no_name_of_a_version_means_two() -> None:
    """Within a scope an alias belongs to one version, and so does each base: the order of the table decides nothing."""
    for framework in images.frameworks():
        seen: dict[object, str] = {}
        for release in table.releases(framework):
            for scope in release.scopes:
                for alias in release.aliases:
                    assert seen.setdefault((scope, alias), release.version) == release.version, framework


def test_newer_files_of_an_installed_sagemaker_core_are_read(installed: Install) -> None:
    """Newer files add versions, aliases and regions; the table has the rest; no file is imported."""
    installed("99.1.0", "sklearn", NEWER)
    uri = images.image_uri("sklearn", "9.9", "moon-west-1")
    assert uri == "444455556666.dkr.ecr.moon-west-1.amazonaws.com/sagemaker-scikit-learn:9.9-cpu-py3"
    assert images.image_uri("sklearn", None, "eu-west-1").endswith(":9.9-1-cpu-py3")
    assert images.image_uri("sklearn", "1.2-1", "eu-west-1").startswith("141502667606.")
    assert images.versions("sklearn")[0] == "9.9-1"


def test_a_new_framework_of_an_installed_sagemaker_core_is_known(installed: Install) -> None:
    """A file can describe a framework that the table lacks."""
    installed("99.1.0", "brand-new", NEWER)
    assert "brand-new" in images.frameworks()
    assert "instance_gpu_info" not in images.frameworks()
    assert images.image_uri("brand-new", "9.9-1", "eu-west-1").startswith("111122223333.")


def test_older_files_are_left_alone(installed: Install) -> None:
    """A distribution that is not newer than the table is not used."""
    installed("1.0.0", "sklearn", NEWER)
    with pytest.raises(ConfigurationError, match=r"sklearn has no '9\.9-1'"):
        images.image_uri("sklearn", "9.9-1", "eu-west-1")


@pytest.mark.parametrize(
    "document", [[], {}, {"training": {"versions": {"1": {}}}}, {"training": {"versions": 3}}, "x"]
)
def test_a_file_of_an_unknown_form_leaves_the_table(installed: Install, document: object) -> None:
    """A file in an unknown form is ignored, and the table is used."""
    installed("99.1.0", "sklearn", document)
    assert images.image_uri("sklearn", "1.2-1", "eu-west-1").startswith("141502667606.")


def test_reading_images_loads_neither_botocore_nor_sagemaker() -> None:
    """A URI costs the table alone: in a fresh process no client library is imported."""
    program = (
        "import sys; from processing import images; images.image_uri('sklearn', '1.2-1', 'eu-west-1');"
        "print(sorted({'boto3', 'botocore', 'sagemaker', 'difflib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(
    version=st.from_regex(r"[0-9]+(\.[0-9]+){0,2}(-[0-9])?", fullmatch=True),
    processors=st.lists(st.sampled_from(["cpu", "gpu", "inf"]), unique=True),
    pythons=st.lists(st.sampled_from(["py3", "py310", "py312"]), unique=True),
    prefix=st.none() | st.from_regex(r"[a-z]{1,4}[0-9.]{0,4}", fullmatch=True),
)
def test_tags_are_their_parts_joined_by_hyphens(
    version: str, processors: list[str], pythons: list[str], prefix: str | None
) -> None:
    """A tag is the prefix or the version, then the processor and the Python where there are any."""
    described: dict[str, Any] = {"registries": {"r-1": "1"}, "repository": "repo", "py_versions": pythons}
    if prefix is not None:
        described["tag_prefix"] = prefix
    document = {"scope": ["training"], "processors": processors, "versions": {version: described}}
    (release,) = read_releases("some-framework", document)
    for processor in processors or [""]:
        for python in pythons or [""]:
            expected = "-".join(part for part in (prefix or version, processor, python) if part)
            values = {"version": version, "base": None, "py": python, "container": None}
            assert fill_pattern(release.tags[processor], values) == expected
