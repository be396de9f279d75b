"""Rules of SageMaker that the service model lacks, for the client and for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    AthenaDatasetDefinition,
    ConfigurationError,
    DatasetDefinition,
    LocalSession,
    ProcessingInput,
    ProcessingOutput,
    Processor,
    ScriptProcessor,
    Session,
)
from processing.local.engine import Engine
from processing.local.errors import ApiError
from processing.processors import FrameworkProcessor
from processing.request.bucket_names import bucket_problem
from processing.request.build import build_request
from processing.request.rules import GIB, partition_of, volume_problem
from processing.request.s3_uri import S3Uri
from processing.request.validate import find_problems

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "/opt/ml/processing/"
ROLE = "arn:aws:iam::123456789012:role/etl"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/etl:1"
ACCESS_POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap"
MINIMAL: dict[str, Any] = {
    "job_name": "job",
    "role_arn": ROLE,
    "image_uri": IMAGE,
    "instance_count": 1,
    "instance_type": "ml.m5.xlarge",
    "entrypoint": ["true"],
}


def an_input(source: str = "s3://bucket/k", path: str = ROOT + "in", name: str = "in", **given: Any) -> ProcessingInput:
    """A valid input with these changes."""
    return ProcessingInput(source, path, name, **given)


def an_output(
    uri: str = "s3://bucket/k", path: str = ROOT + "out", name: str = "out", **given: Any
) -> ProcessingOutput:
    """A valid output with these changes."""
    return ProcessingOutput(path, uri, name, **given)


def a_query(**given: Any) -> ProcessingInput:
    """An input by a query that writes to this location."""
    athena = AthenaDatasetDefinition("c", "d", "q", given.get("uri", "s3://bucket/k"), output_format="PARQUET")
    definition = DatasetDefinition(local_path=given.get("path", ROOT + "query"), athena_dataset_definition=athena)
    return ProcessingInput(input_name="q", dataset_definition=definition)


# The changes of the request, and the client's finding. The engine has the same rules under the API's names.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"arguments": ["--model", ""]}, "arguments[1]: is an empty string"),
    ({"entrypoint": ["python3", ""]}, "entrypoint[1]: is an empty string"),
    ({"image_uri": ""}, "image_uri: is blank"),
    ({"image_uri": " \t"}, "image_uri: is blank"),
    ({"image_uri": "None"}, "image_uri: 'None' is a Python value as text"),
    ({"image_uri": "${IMAGE}"}, "image_uri: a placeholder in '${IMAGE}' has not been replaced"),
    ({"image_uri": "registry/{name}:1"}, "image_uri: a placeholder in"),
    (
        {"image_uri": "https://registry/a:1"},
        "image_uri: 'https://registry/a:1' has a scheme, which no image has; write",
    ),
    ({"arguments": ["\udcff"]}, "arguments[0]: contains a character that UTF-8 does not have"),
    ({"environment": {"A": "\ud800"}}, 'env["A"]: contains a character that UTF-8 does not have'),
    ({"inputs": [an_input("s3://bucket/\udcff")]}, "inputs[0].source: contains a character that UTF-8"),
    ({"image_uri": "an image"}, "image_uri: contains white space"),
    ({"arguments": ["a\0b"]}, "arguments[0]: contains a NUL"),
    ({"entrypoint": ["\0"]}, "entrypoint[0]: contains a NUL"),
    ({"environment": {"A": "\0"}}, 'env["A"]: contains a NUL'),
    ({"environment": {"A\0": "b"}}, 'env["A\0"]: contains a NUL'),
    ({"image_uri": "a\0"}, "image_uri: contains a NUL"),
    ({"tags": {"k": "\0"}}, "tags[0].Value: contains a NUL"),
    ({"tags": {"\0": "v"}}, "tags[0].Key: contains a NUL"),
    ({"inputs": [an_input(path=ROOT + "a\0")]}, "inputs[0].destination: contains a NUL"),
    ({"inputs": [an_input("s3://bucket/\0")]}, "inputs[0].source: contains a NUL"),
    ({"outputs": [an_output("s3://bucket/\0")]}, "outputs[0].destination: contains a NUL"),
    ({"outputs": [an_output(path=ROOT + "\0")]}, "outputs[0].source: contains a NUL"),
    ({"inputs": [an_input(path=ROOT + "x")], "outputs": [an_output(path=ROOT + "x/")]}, "outputs[0].source: "),
    ({"inputs": [an_input(), an_input(name="b")]}, "inputs[1].destination: "),
    (
        {"inputs": [an_input(s3_input_mode="Pipe"), an_input(path=ROOT + "in_0", name="b")]},
        "inputs[1].destination: '/opt/ml/processing/in_0' is in the way of the named pipes of inputs[0].destination",
    ),
    (
        {"inputs": [an_input(s3_input_mode="Pipe")], "outputs": [an_output(path=ROOT + "in_12/x")]},
        "outputs[0].source: '/opt/ml/processing/in_12/x' is in the way",
    ),
    ({"tags": [{"Key": "k", "Value": "1"}] * 2}, "tags[1].Key: 'k' is also tags[0].Key"),
    ({"tags": {"AWS:x": "v"}}, "tags[0].Key: 'AWS:x' begins with aws:"),
]


@pytest.mark.parametrize(("changes", "finding"), REFUSED, ids=[finding for _, finding in REFUSED])
def test_client_and_engine_refuse(changes: dict[str, Any], finding: str, tmp_path: Path) -> None:
    """The client names the user's field, and the engine refuses the same request from any client."""
    request = build_request(**{**MINIMAL, **changes})
    problems = find_problems(request)
    assert [problem for problem in problems if problem.startswith(finding)], problems
    with pytest.raises(ApiError) as refused:
        Engine(tmp_path / "engine").handle("sagemaker", "CreateProcessingJob", request.to_boto())
    assert refused.value.code == "ValidationException"


IMPOSSIBLE = [
    *("s3:", "${BUCKET}", "{bucket}", "<bucket>", "%s", "None", "True", "buck et", " bucket", "bucket ", "b..c"),
    *("Bucket", "my_bucket", "-bucket", "bucket-", ".bucket", "bucket.", "192.168.0.1", "b" * 64, "bücket", "a:b"),
    *("arn:aws:s3:::bucket", "arn:aws:iam::123456789012:role"),
]


@pytest.mark.parametrize("bucket", IMPOSSIBLE)
def test_impossible_buckets(bucket: str, tmp_path: Path) -> None:
    """A name that no bucket can have is refused wherever a location in S3 is given, and names the parameter."""
    uri = f"s3://{bucket}/k"
    assert bucket_problem(bucket) is not None
    findings: dict[str, dict[str, Any]] = {
        "inputs[0].source": {"inputs": [an_input(uri)]},
        "outputs[0].destination": {"outputs": [an_output(uri)]},
        "inputs[0].dataset_definition.athena_dataset_definition.output_s3_uri": {"inputs": [a_query(uri=uri)]},
    }
    for field, changes in findings.items():
        request = build_request(**{**MINIMAL, **changes})
        assert [each.partition(": ")[0] for each in find_problems(request)] == [field]
        with pytest.raises(ApiError) as refused:
            Engine(tmp_path / "engine").handle("sagemaker", "CreateProcessingJob", request.to_boto())
        assert refused.value.code == "ValidationException"
    for make in (Session, LocalSession):
        with pytest.raises(ConfigurationError, match=r"^default_bucket: "):
            make(default_bucket=bucket)
        with pytest.raises(ConfigurationError, match=r"^default_bucket: "):
            make(default_bucket=f"s3://{bucket}")


@pytest.mark.parametrize("bucket", ["s3:", "${BUCKET}", "None", "my_bucket", "Bucket"])
def test_impossible_buckets_of_code(bucket: str, tmp_path: Path) -> None:
    """The same for code, source directories, the place of code, and the functions for files."""
    (tmp_path / "s.py").write_text("1")
    script, uri = tmp_path / "s.py", f"s3://{bucket}/k/s.py"
    session = Session(region_name="eu-west-1", default_bucket="bucket")
    processor = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    with pytest.raises(ConfigurationError, match=r"^code: "):
        processor.request(uri)
    with pytest.raises(ConfigurationError, match=r"^source_dir: "):
        processor.request("s.py", source_dir=f"s3://{bucket}/k")
    placed = FrameworkProcessor(
        image_uri=IMAGE,
        role=ROLE,
        instance_count=1,
        instance_type="ml.m5.large",
        sagemaker_session=session,
        code_location=f"s3://{bucket}/k",
    )
    with pytest.raises(ConfigurationError, match=r"^code_location: "):
        placed.request(script)
    config = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"Session": {"DefaultS3Bucket": bucket}}}}}
    with pytest.raises(ConfigurationError, match=r"DefaultS3Bucket: "):
        Session(region_name="eu-west-1", sagemaker_config=config)


@pytest.mark.parametrize("bucket", ["b", "a-bucket", "my.bucket", "0bucket9", "b" * 63, "ap-x-s3alias", ACCESS_POINT])
def test_possible_buckets(bucket: str) -> None:
    """Every name that S3 allows is accepted, and the ARN of an access point in its place."""
    assert bucket_problem(bucket) is None
    assert S3Uri.checked(f"s3://{bucket}/a/b", "x") == S3Uri(bucket, "a/b")


@pytest.mark.parametrize(
    "arn",
    [
        ACCESS_POINT,
        "arn:aws:s3:eu-west-1:123456789012:accesspoint:ap",
        "arn:aws:s3::123456789012:accesspoint/m.mrap",
        "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/ap",
        "arn:aws:s3-object-lambda:eu-west-1:123456789012:accesspoint/ap",
        "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-1/accesspoint/ap",
    ],
)
def test_access_points(arn: str) -> None:
    """An access point stands in the place of a bucket: the key begins after its name."""
    assert S3Uri.parse(f"s3://{arn}/out/x") == S3Uri(arn, "out/x")
    assert S3Uri.parse(f"s3://{arn}") == S3Uri(arn)
    assert str(S3Uri(arn, "out/x")) == f"s3://{arn}/out/x"
    assert Session(default_bucket=arn).default_bucket() == arn


def test_the_engine_has_no_access_points(tmp_path: Path) -> None:
    """The engine refuses an access point before it starts the job."""
    request = build_request(**{**MINIMAL, "inputs": [an_input(f"s3://{ACCESS_POINT}/k")]})
    with pytest.raises(ApiError, match="access point, which the local engine lacks"):
        Engine(tmp_path / "engine").handle("sagemaker", "CreateProcessingJob", request.to_boto())


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("m5.xlarge", "'ml.m5.xlarge'"),
        ("M5.XLARGE", "'ml.m5.xlarge'"),
        ("ML.M5.XLarge", "'ml.m5.xlarge'"),
        (" ml.m5.xlarge ", "'ml.m5.xlarge'"),
        ("t3.medium", "'ml.t3.medium'"),
        ("ml-m5-xlarge", "'ml.m5.xlarge'"),
        ("ml_m5_xlarge", "'ml.m5.xlarge'"),
        ("m99.large", "'ml.m99.large'"),
        ("ml.m5", "'ml.m5."),
        ("", "such as"),
        ("  ", "such as"),
        ("?", "such as"),
    ],
)
def test_types_without_ml(given: str, right: str) -> None:
    """A rule of writing comes before similarity: `m5.xlarge` lacks `ml.`; it is an error, not a warning."""
    (problem,) = find_problems(build_request(**{**MINIMAL, "instance_type": given}))
    assert problem.startswith("instance_type: ")
    assert right in problem
    preferences = build_request(**{**MINIMAL, "instance_type": None, "instance_preferences": [given]})
    (problem,) = find_problems(preferences)
    assert problem.startswith("instance_preferences[0]")
    assert right in problem


KEY = "arn:aws:kms:us-east-1:123456789012:key/1"


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"image_uri": IMAGE.replace("eu-west-1", "us-east-1")}, "image_uri: is an image in us-east-1"),
        ({"image_uri": "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/i"}, "image_uri: is an image in cn-north-1"),
        ({"image_uri": "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com/i"}, "image_uri: is an image in us-east-1"),
        ({"image_uri": "123456789012.dkr-ecr.us-east-1.on.aws/i"}, "image_uri: is an image in us-east-1"),
        ({"role_arn": ROLE.replace("aws", "aws-cn")}, "role: is in the partition aws-cn"),
        ({"role_arn": ROLE.replace("aws", "aws-us-gov")}, "role: is in the partition aws-us-gov"),
        ({"volume_kms_key": KEY}, "volume_kms_key: is in us-east-1"),
        ({"output_kms_key": KEY, "outputs": [an_output()]}, "output_kms_key: is in us-east-1"),
        (
            {"inputs": [an_input(f"s3://{ACCESS_POINT.replace('eu-west-1', 'us-east-1')}/k")]},
            "inputs[0].source: is in us-east-1",
        ),
        (
            {"outputs": [an_output(f"s3://{ACCESS_POINT.replace('aws', 'aws-cn', 1)}/k")]},
            "outputs[0].destination: is in the partition aws-cn",
        ),
    ],
)
def test_other_regions(changes: dict[str, Any], finding: str, tmp_path: Path) -> None:
    """Images, keys and access points are of the job's region, roles of its partition; the engine's if one is chosen."""
    request = build_request(**{**MINIMAL, **changes})
    (problem,) = find_problems(request, region="eu-west-1")
    assert problem.startswith(finding)
    assert find_problems(request) == ()
    with pytest.raises(ApiError, match="the job would run in eu-west-1"):
        Engine(tmp_path, region="eu-west-1").handle("sagemaker", "CreateProcessingJob", request.to_boto())


@pytest.mark.parametrize(
    ("image", "region"),
    [(IMAGE, "eu-west-1"), ("python:3.12", "us-east-1"), ("public.ecr.aws/x/y:1", "us-east-1"), (IMAGE, "xx-new-1")],
)
def test_right_regions(image: str, region: str) -> None:
    """An image of the job's region or of another registry is fine; so is a partition that botocore does not know."""
    found = find_problems(build_request(**{**MINIMAL, "image_uri": image}), region=region)
    assert [each for each in found if not each.startswith("image_uri: is an image in eu-west-1")] == []
    assert (found == ()) == (region != "xx-new-1")
    assert partition_of("xx-new-1") is None


def test_a_session_and_its_region() -> None:
    """`request` and `plan` compare with the region of the session."""
    session = Session(region_name="us-east-1", default_bucket="bucket")
    processor = Processor(ROLE, IMAGE, 1, "ml.m5.large", ["x"], sagemaker_session=session)
    with pytest.raises(ConfigurationError, match="image_uri: is an image in eu-west-1, and the job would run in us-e"):
        processor.request()
    assert processor.plan().problems[0].startswith("image_uri: is an image in eu-west-1")


def test_any_image_on_the_engine(tmp_path: Path) -> None:
    """A script for another region runs on the engine, unless the user chooses a region for it."""
    for session, fine in ((LocalSession(tmp_path), True), (LocalSession(tmp_path, region_name="us-east-1"), False)):
        processor = Processor(ROLE, IMAGE, 1, "local", ["true"], sagemaker_session=session)
        assert (processor.plan().problems == ()) is fine


@pytest.mark.parametrize(
    ("changes", "sizes", "fits"),
    [
        ({}, {0: 30 * GIB}, True),
        ({}, {0: 30 * GIB + 1}, False),
        ({}, {0: 20 * GIB, 1: 20 * GIB}, False),
        ({"instance_count": 4}, {0: 31 * GIB}, False),
        ({"instance_count": 4, "distribution": "ShardedByS3Key"}, {0: 100 * GIB}, True),
        ({"instance_count": 4, "distribution": "ShardedByS3Key"}, {0: 130 * GIB}, False),
        ({"mode": "Pipe"}, {0: 100 * GIB}, True),
        ({"instance_type": "ml.r5d.large"}, {0: 100 * GIB}, True),
        ({"instance_type": "ml.g5.xlarge"}, {0: 100 * GIB}, True),
        ({"instance_type": "local"}, {0: 100 * GIB}, True),
    ],
)
def test_volumes(changes: dict[str, Any], sizes: dict[int, int], fits: bool) -> None:
    """The inputs of one instance fit its volume: shares of sharded ones, nothing of pipes, not with its own storage."""
    changes = dict(changes)
    given = {
        "s3_data_distribution_type": changes.pop("distribution", "FullyReplicated"),
        "s3_input_mode": changes.pop("mode", "File"),
    }
    inputs = [an_input(**given), an_input(path=ROOT + "b", name="b", **given)]
    request = build_request(**{**MINIMAL, "inputs": inputs, **changes})
    assert (volume_problem(request.to_boto(), sizes) is None) is fits


def test_an_upload_that_is_too_large(tmp_path: Path) -> None:
    """An upload that exceeds the volume is refused before it begins; the message has both sizes."""
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(2 * GIB + 1)
    processor = Processor(
        ROLE,
        IMAGE,
        1,
        "ml.m5.large",
        ["x"],
        volume_size_in_gb=2,
        sagemaker_session=Session(region_name="eu-west-1", default_bucket="bucket"),
    )
    given = [ProcessingInput(tmp_path / "big.bin", ROOT + "in")]
    expected = "volume_size_in_gb: is 2 GB, and the inputs of each instance have 2.0 GB; give at least 3"
    with pytest.raises(ConfigurationError) as refused:
        processor.request(given)
    assert refused.value.problems == (expected,)
    assert processor.plan(given).problems == (expected,)


def test_the_engine_compares_the_objects_with_the_volume(tmp_path: Path) -> None:
    """The engine knows the sizes of its objects."""
    engine = Engine(tmp_path)
    engine.objects.create_bucket("bucket")
    engine.objects.put("bucket", "k/a", b"x" * 10)
    assert (engine.objects.size_below("bucket", "k"), engine.objects.size_below("bucket", "l")) == (10, 0)
    with engine.objects.database.write() as connection:
        connection.execute("UPDATE objects SET size = ?", (31 * GIB,))
    request = build_request(**{**MINIMAL, "inputs": [an_input()]})
    with pytest.raises(ApiError, match=r"VolumeSizeInGB: is 30 GB, and the inputs of each instance have 31\.0 GB"):
        engine.handle("sagemaker", "CreateProcessingJob", request.to_boto())


@pytest.mark.parametrize("scheme", ["S3://", "s3://"])
def test_the_scheme_in_capitals(scheme: str) -> None:
    """A scheme in capitals is one everywhere: it is sent in small letters, as AWS requires."""
    session = Session(region_name="eu-west-1", default_bucket=f"{scheme}bucket")
    assert session.default_bucket() == "bucket"
    processor = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    request = processor.request(
        f"{scheme}b/s.py",
        inputs=[ProcessingInput(f"{scheme}b/i", ROOT + "i")],
        outputs=[ProcessingOutput(ROOT + "o", f"{scheme}b/o")],
    )
    assert [entry.source for entry in request.inputs] == ["s3://b/i", "s3://b/s.py"]
    assert request.outputs[0].destination == "s3://b/o"
    query = build_request(**{**MINIMAL, "inputs": [a_query(uri="S3://b/k")]})
    (problem,) = find_problems(query)
    assert problem.endswith("output_s3_uri: must begin with s3:// in small letters, not 'S3://'")


def test_empty_words_of_a_command() -> None:
    """The command is refused under its own name, and so is a word that would travel in a file."""
    session = Session(region_name="eu-west-1", default_bucket="bucket")
    for command, finding in ((["python3", ""], "is an empty string"), (["python3", "\0"], "contains a NUL")):
        processor = ScriptProcessor(ROLE, IMAGE, command, 1, "ml.m5.large", sagemaker_session=session)
        with pytest.raises(ConfigurationError, match=rf"^command\[1\]: {finding}"):
            processor.request("s3://b/s.py")
    processor = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    with pytest.raises(ConfigurationError, match=r"^arguments\[1\]: is an empty string"):
        processor.request("s3://b/s.py", arguments=["x" * 300, ""])


@pytest.mark.parametrize("name", ["c.tar.gz", "C.TAR.GZ", "c.tgz", "c.tar", "c.zip", "c.tar.bz2", "c.tar.xz"])
def test_archives_of_code(name: str, tmp_path: Path) -> None:
    """An archive in S3 is read as one, whatever packed it. A local one is refused with the remedy."""
    session = Session(region_name="eu-west-1", default_bucket="bucket")
    processor = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    assert processor.request("main.py", source_dir=f"s3://code/{name}").inputs[0].source == f"s3://code/{name}"
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigurationError, match=r"^source_dir: .* is an archive; give the directory with its files"):
        processor.request("main.py", source_dir=tmp_path / name)


@pytest.mark.parametrize("name", ["c.7z", "c.rar", "c.tar.zst", "c.gz", "c.whl"])
def test_other_archives_of_code(name: str) -> None:
    """An archive that images cannot unpack is refused before it is paid for; a folder of that name is one."""
    session = Session(region_name="eu-west-1", default_bucket="bucket")
    processor = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    with pytest.raises(ConfigurationError, match=r"^source_dir: .*pack it as .tar.gz, .tar or .zip"):
        processor.request("main.py", source_dir=f"s3://code/{name}")
    assert processor.request("main.py", source_dir=f"s3://code/{name}/").inputs[0].source == f"s3://code/{name}/"


@pytest.mark.parametrize(
    ("uri", "key"),
    [("day", "day/f"), ("day/", "day/f"), ("day//", "day//f"), ("a//b", "a//b/f"), ("", "f"), ("/", "/f")],
)
def test_slashes_of_a_destination(uri: str, key: str, tmp_path: Path) -> None:
    """Every slash of a destination is part of the keys, for the engine and for the download."""
    session = LocalSession(tmp_path / "engine")
    program = ["sh", "-c", "echo 1 > /opt/ml/processing/o/f"]
    processor = Processor(entrypoint=program, instance_type="local", instance_count=1, sagemaker_session=session)
    destination = f"s3://{session.default_bucket()}/{uri}"
    job = processor.run(outputs=[ProcessingOutput(ROOT + "o", destination, "o")], logs=False)
    listed = session.client("s3").list_objects_v2(Bucket=session.default_bucket())["Contents"]
    assert [entry["Key"] for entry in listed] == [key]
    assert [file.name for file in job.outputs["o"].download(tmp_path / "files")] == ["f"]
