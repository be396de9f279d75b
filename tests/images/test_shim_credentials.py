"""The credentials of the shim: each source of boto3's, with the botocore of each delivery.

Stand-ins for the metadata servers and for STS hand out the engine's own access key. The engine's S3 verifies
signatures, so a transfer that succeeds used that key.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from processing.cli.shim import main
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession

STATIC = Path(os.environ.get("PROCESSING_TEST_SHIM", Path(__file__).parents[2] / "build/processing-shim"))
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
EXPIRY = "2100-01-01T00:00:00Z"
ROLE = "arn:aws:iam::123456789012:role/service"
# botocore asks a metadata server that refuses three times, a second apart.
WITHOUT_PAUSES = """
import runpy, sys, time
time.sleep = lambda _: None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Source(NamedTuple):
    """Stand-ins for the servers that hand out credentials.

    Attributes:
        url: their address.
        keys: the credentials, by the names of environment variables.
        asked: the method and path of each request.
    """

    url: str
    keys: dict[str, str]
    asked: list[str]


def _answer(method: str, path: str, body: bytes, headers: Any, keys: dict[str, str]) -> bytes | None:
    """Return the answer of a metadata server or of STS; None for a request that it refuses."""
    fields = {"AccessKeyId": keys[KEYS[0]], "SecretAccessKey": keys[KEYS[1]], "Token": keys.get(KEYS[2], "")}
    if (method, path) == ("GET", "/container") and headers["Authorization"] == "proof":
        return json.dumps({**fields, "Expiration": EXPIRY}).encode()
    if (method, path) == ("PUT", "/latest/api/token"):
        return b"session"
    if path.startswith("/latest/meta-data/iam/") and headers["X-aws-ec2-metadata-token"] == "session":
        role = path.endswith("/security-credentials/")
        return b"role" if role else json.dumps({**fields, "Expiration": EXPIRY, "Code": "Success"}).encode()
    if (
        (method, path) == ("POST", "/")
        and b"WebIdentityToken=signed" in body
        and ROLE.rpartition("/")[2].encode() in body
    ):
        inner = "".join(
            f"<{name}>{value}</{name}>"
            for name, value in (
                ("AccessKeyId", fields["AccessKeyId"]),
                ("SecretAccessKey", fields["SecretAccessKey"]),
                ("SessionToken", fields["Token"]),
                ("Expiration", EXPIRY),
            )
        )
        space = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'
        name = "AssumeRoleWithWebIdentity"
        credentials = f"<{name}Result><Credentials>{inner}</Credentials></{name}Result>"
        return f"<{name}Response {space}>{credentials}</{name}Response>".encode()
    return None


@pytest.fixture
def s3(local_session: LocalSession) -> Iterator[dict[str, str]]:
    """The engine's S3: the environment of its clients."""
    client = local_session.boto_session.client("s3")
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="a", Body=b"content")
    with Server(local_session.engine) as server:
        yield dict(server.environment())


@pytest.fixture
def source(s3: dict[str, str]) -> Iterator[Source]:
    """The stand-ins."""
    keys = {name: s3[name] for name in KEYS if name in s3}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(f"{self.command} {self.path}")
            answer = _answer(self.command, self.path, body, self.headers, keys)
            self.send_response(403 if answer is None else 200)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 - the standard library names them

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Source(f"http://127.0.0.1:{server.server_port}", keys, asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim as a zip file with a botocore."""
    path = tmp_path_factory.mktemp("zipapp") / "sagemaker-shim"
    assert main(["zipapp", "--output", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for temporary files, into which a zip file is unpacked and compiled once, as on any machine."""
    return tmp_path_factory.mktemp("temporary")


def _variables(kind: str, source: Source, folder: Path) -> dict[str, str]:
    (folder / "token").write_text("signed")
    (folder / "credentials").write_text(
        "[other]\naws_access_key_id = {}\naws_secret_access_key = {}\n".format(
            *(source.keys[name] for name in KEYS[:2])
        )
    )
    return {
        "variables": source.keys,
        "a profile": {"AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"), "AWS_PROFILE": "other"},
        "container metadata": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{source.url}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "proof",
        },
        "instance metadata": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{source.url}/"},
        "web identity": {
            "AWS_ROLE_ARN": ROLE,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "token"),
            "AWS_ENDPOINT_URL_STS": source.url,
        },
        "a wrong token": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{source.url}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "forged",
            "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1",
        },
    }[kind]


def _command(delivery: str, zipapp: Path) -> list[str]:
    if delivery == "static":
        return [str(STATIC)]
    if delivery == "zip file":
        return [sys.executable, "-I", "-S", str(zipapp)]  # without the boto3 of this machine
    return [sys.executable, "-m", "processing.container.shim"]


@pytest.mark.parametrize("plain", ["true", "false"])
@pytest.mark.parametrize(
    "delivery",
    ["package", "zip file", pytest.param("static", marks=pytest.mark.complete("scripts/build-shim takes a minute"))],
)
@pytest.mark.parametrize("kind", ["variables", "a profile", "container metadata", "instance metadata", "web identity"])
def test_each_source_of_credentials_is_used(
    plain: str,
    kind: str,
    delivery: str,
    source: Source,
    s3: dict[str, str],
    zipapp: Path,
    temporary: Path,
    tmp_path: Path,
) -> None:
    """The shim finds credentials where boto3 does, and the program receives none of them."""
    variables = {
        **_variables(kind, source, tmp_path),
        "PROCESSING_SHIM_PLAIN_S3": plain,
        "TMPDIR": str(temporary),
    }
    done = _invoke(_command(delivery, zipapp), variables, s3, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert bool(source.asked) == (kind not in {"variables", "a profile"})
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert not set(seen) & {*KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE"}


def test_refused_credentials_are_the_reason_of_a_failure(
    source: Source, s3: dict[str, str], zipapp: Path, temporary: Path, tmp_path: Path
) -> None:
    """A metadata server that refuses is named in the log."""
    variables = {**_variables("a wrong token", source, tmp_path), "TMPDIR": str(temporary)}
    python, *isolated, program = _command("zip file", zipapp)
    done = _invoke([python, *isolated, "-c", WITHOUT_PAUSES, program], variables, s3, tmp_path)
    assert done.returncode == 1
    assert "Error when retrieving credentials from container-role" in done.stderr


def _invoke(command: list[str], variables: dict[str, str], s3: dict[str, str], folder: Path) -> Any:
    environment = {
        name: value for name, value in s3.items() if name not in KEYS and name != "AWS_EC2_METADATA_DISABLED"
    }
    environment |= {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "PROCESSING_SHIM_INPUT_PATH": str(folder / "in"),
        "PROCESSING_SHIM_OUTPUT_PATH": str(folder / "out"),
        "AWS_CONFIG_FILE": str(folder / "absent"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "absent"),
        **variables,
    }
    task = {
        "pk": "one",
        "inputs": [{"relative_path": "a", "bucket_name": "data", "bucket_key": "a"}],
        "output_bucket_name": "data",
        "output_prefix": "out",
    }
    words = [*command, "invoke", "-t", json.dumps(task), "--", "/bin/sh", "-c", f"env > {folder}/seen"]
    return subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
