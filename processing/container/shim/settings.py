"""Settings of the shim, from the environment: the variables of sagemaker-shim, or our own names for them."""

from __future__ import annotations

import base64
import json
import re
import shlex
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from processing.container.shim.errors import SettingError

OWN_PREFIX = "PROCESSING_SHIM_"
"""The beginning of our own names. They count before those of sagemaker-shim."""
THEIR_PREFIX = "GRAND_CHALLENGE_COMPONENT_"
"""The beginning of sagemaker-shim's names."""
ML_ROOT = OWN_PREFIX + "ML_ROOT"
"""The variable with SageMaker's folder, in place of /opt/ml."""
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""Variables that lead to credentials. The program does not receive them."""
_WRITABLE = "/opt/ml/output/data:/opt/ml/model:/opt/ml/input/data/ground_truth:/opt/ml/checkpoints:/tmp"
_CLEANED = "/opt/ml/output/data:/opt/ml/model:/opt/ml/input/data/ground_truth"

CONNECTS = "tcp"
"""In place of the path of a server's health: it is healthy if it accepts connections."""
_MOST_PORT = 65_535
_PATH = re.compile(r"/[\x21\x22\x24-\x7e]*")
"""Matches a path of HTTP, with a query or without."""

Words = Union[None, str, Tuple[str, ...]]
"""An entrypoint or command: absent, in Docker's shell form, or in its exec form."""


class Proxy(NamedTuple):
    """A web server of the user's behind SageMaker's contract.

    Attributes:
        port: its port on 127.0.0.1; 0 if `serve` runs tasks.
        ping: the path of its health, or `CONNECTS`.
        routes: the paths of invocations; the first is the default.
        seconds: the longest time until an answer begins, and between two of its pieces.
        concurrency: the most invocations at a time; 0 for any number.
        max_payload: the most bytes of a request's body; None for any number.
    """

    port: int
    ping: str
    routes: Tuple[str, ...]
    seconds: float
    concurrency: int
    max_payload: Optional[int]


class Settings(NamedTuple):
    """The settings.

    Attributes:
        entrypoint: the image's entrypoint.
        command: the image's command.
        program: the program and its arguments in place of both; empty for them.
        user: the user of the program as in Docker's USER, `name`, `uid` or with `:group`; empty for the shim's own.
        extra_groups: whether the program has the supplementary groups of its user.
        memory_mb: the limit of the program's data in MiB; 0 for none.
        grace: the seconds between SIGTERM and SIGKILL.
        train_grace: the same for `train`.
        input_path: the input folder.
        output_path: the output folder.
        ml_root: SageMaker's folder, /opt/ml.
        linked_input_parent: the folder of the folders behind a linked input folder; None if it is not linked.
        writable_folders: folders that are made, for all users to write to.
        cleaned_folders: folders that are emptied at the end.
        model: the URI of an archive to unpack at the start, and its folder.
        ground_truth: the same for the truth that outputs are compared to.
        setup_output: the bucket and prefix of `runtime_setup_result.json`; None for no such file.
        signing_key: the key that signs results; empty for none.
        concurrency: the transfers at a time.
        connections: the connections to S3 at a time.
        endpoint_url: the URL of another S3.
        plain_s3: whether transfers that need nothing more do without botocore.
        log_level: the lowest level of the shim's own messages.
        log_format: "json" or "plain".
        partial_outputs: whether outputs are uploaded after a failure.
        pending_results: whether a task has a result before its end, which stays if the shim is killed.
        keep_credentials: whether the program receives variables that lead to credentials.
        port: the port of `serve`.
        api_method: "exec" for a process for each task, "invoke" for a long-lived server.
        server_port: the port of that server.
        start_seconds: the longest time until the server is healthy.
        health_seconds: the longest time of one call of its /health.
        busy: the answer to a second task at a time, "wait" or "refuse".
        max_payload: the most bytes of a request's body.
        proxy: the server that `serve` forwards to.
        job_name: the processing job that the tasks belong to; empty for none.
    """

    entrypoint: Words
    command: Words
    program: Tuple[str, ...]
    user: str
    extra_groups: bool
    memory_mb: int
    grace: float
    train_grace: float
    input_path: str
    output_path: str
    ml_root: str
    linked_input_parent: Optional[str]
    writable_folders: Tuple[str, ...]
    cleaned_folders: Tuple[str, ...]
    model: Tuple[str, str]
    ground_truth: Tuple[str, str]
    setup_output: Optional[Tuple[str, str]]
    signing_key: bytes
    concurrency: int
    connections: int
    endpoint_url: Optional[str]
    plain_s3: bool
    log_level: str
    log_format: str
    partial_outputs: bool
    pending_results: bool
    keep_credentials: bool
    port: int
    api_method: str
    server_port: int
    start_seconds: int
    health_seconds: int
    busy: str
    max_payload: int
    proxy: Proxy
    job_name: str = ""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings.

    Raises:
        SettingError: a variable has an impossible value.
    """
    read = _Reader(environment)
    # A program in an image of Grand Challenge expects these; elsewhere, no one asked to empty or link a folder.
    theirs = any(name.upper().startswith(THEIR_PREFIX) for name in environment)
    linked = read.boolean("USE_LINKED_INPUT", default=theirs)
    bucket, prefix = read.text("RUNTIME_OUTPUT_BUCKET_NAME"), read.text("RUNTIME_OUTPUT_PREFIX")
    return Settings(
        entrypoint=read.words("ENTRYPOINT_B64J"),
        command=read.words("CMD_B64J"),
        program=_split(OWN_PREFIX + "PROGRAM", environment.get(OWN_PREFIX + "PROGRAM", "")),
        user=read.text("USER"),
        extra_groups=read.boolean("SET_EXTRA_GROUPS", default=True),
        memory_mb=read.number("MAX_MEMORY_MB", 0),
        grace=float(read.number("SIGTERM_GRACE_SECONDS", 5)),
        # SageMaker waits for 120 seconds, and a program may have a checkpoint to write.
        train_grace=float(read.number("SIGTERM_GRACE_SECONDS", 110)),
        input_path=read.text("INPUT_PATH", "/input"),
        output_path=read.text("OUTPUT_PATH", "/output"),
        ml_root=environment.get(ML_ROOT) or "/opt/ml",
        linked_input_parent=read.text("LINKED_INPUT_PARENT", "/opt/ml/input/data") if linked else None,
        writable_folders=read.folders("WRITABLE_DIRECTORIES", _WRITABLE if theirs else ""),
        cleaned_folders=read.folders("POST_CLEAN_DIRECTORIES", _CLEANED if theirs else ""),
        model=(read.text("MODEL"), read.text("MODEL_DEST", "/opt/ml/model")),
        ground_truth=(read.text("GROUND_TRUTH"), read.text("GROUND_TRUTH_DEST", "/opt/ml/input/data/ground_truth")),
        setup_output=(bucket, prefix.rstrip("/") + "/") if bucket and prefix else None,
        signing_key=read.hexadecimal("SIGNING_KEY_HEX"),
        concurrency=read.number("ASYNC_CONCURRENCY", 50, least=1),
        connections=read.number("BOTO_MAX_POOL_CONNECTIONS", 120, least=1),
        endpoint_url=environment.get("AWS_S3_ENDPOINT_URL") or None,
        plain_s3=read.boolean("PLAIN_S3", default=True),
        log_level=(read.text("LOG_LEVEL") or environment.get("LOG_LEVEL") or "INFO").upper(),
        log_format=read.choice("LOG_FORMAT", "json", ("json", "plain")),
        partial_outputs=read.boolean("PARTIAL_OUTPUTS", default=True),
        pending_results=read.boolean("PENDING_RESULTS", default=False),
        keep_credentials=read.boolean("KEEP_CREDENTIALS", default=False),
        port=check_port(
            "SAGEMAKER_BIND_TO_PORT",
            _number("SAGEMAKER_BIND_TO_PORT", environment.get("SAGEMAKER_BIND_TO_PORT") or "8080", 0),
        ),
        api_method=read.choice("API_METHOD", "exec", ("exec", "invoke")),
        server_port=read.number("USER_WEBSERVER_PORT", 4743, least=1),
        start_seconds=read.number("START_AND_HEALTH_TIMEOUT_SECONDS", 300),
        health_seconds=read.number("HEALTH_CHECK_CALL_TIMEOUT_SECONDS", 10, least=1),
        busy=read.choice("BUSY", "wait", ("wait", "refuse")),
        max_payload=_number("SAGEMAKER_MAX_PAYLOAD_IN_MB", environment.get("SAGEMAKER_MAX_PAYLOAD_IN_MB") or "6", 1)
        << 20,
        proxy=_read_proxy(read, environment),
    )


def _read_proxy(read: _Reader, environment: Mapping[str, str]) -> Proxy:
    # An asynchronous invocation may have 1 GB, so the body is limited on request only.
    name = "SAGEMAKER_MAX_PAYLOAD_IN_MB"
    limit = _number(name, environment[name], 1) << 20 if environment.get(name) else None
    proxy = Proxy(
        port=read.number("PROXY_PORT", 0),
        ping=read.text("PROXY_PING", "/ping"),
        routes=tuple(read.text("PROXY_ROUTES", "/invocations").split()),
        seconds=float(read.number("PROXY_TIMEOUT_SECONDS", 3600, least=1)),
        concurrency=read.number("PROXY_CONCURRENCY", 0),
        max_payload=limit,
    )
    check_proxy(proxy, read.name("PROXY_PORT"), read.name("PROXY_PING"), read.name("PROXY_ROUTES"))
    return proxy


def check_port(name: str, port: int) -> int:
    """Return a port.

    Raises:
        SettingError: there is no such port.
    """
    if not 0 <= port <= _MOST_PORT:
        raise SettingError("%s: %d must be a port from 1 to %d" % (name, port, _MOST_PORT))
    return port


def check_proxy(proxy: Proxy, port: str = "--proxy", ping: str = "--ping", routes: str = "--route") -> None:
    """Check a proxy's settings.

    Args:
        proxy: the settings.
        port: the name of the port in errors.
        ping: the name of the path of the health.
        routes: the name of the routes.

    Raises:
        SettingError: a port or a path is impossible.
    """
    check_port(port, proxy.port)
    paths = [] if proxy.ping == CONNECTS else [(ping, proxy.ping)]
    for name, path in [*paths, *((routes, each) for each in proxy.routes)]:
        if _PATH.fullmatch(path) is None:
            raise SettingError("%s: %r must be a path such as /v1/chat/completions" % (name, path))
    if not proxy.routes:
        raise SettingError("%s: give a path such as /v1/chat/completions" % routes)


def program_environment(environment: Mapping[str, str], *, keep_credentials: bool) -> Dict[str, str]:
    """Return the environment of the program: without the shim's own variables, and without credentials.

    A static binary sets LD_LIBRARY_PATH for itself and keeps the image's value in LD_LIBRARY_PATH_ORIG; the program
    receives the latter.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(("GRAND_CHALLENGE_", OWN_PREFIX))
        and (keep_credentials or name not in CREDENTIALS)
    }
    original = kept.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is not None:
        kept["LD_LIBRARY_PATH"] = original
    return kept


class _Reader:
    """Reads variables by the names that sagemaker-shim and the shim share."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def name(self, name: str) -> str:
        """Return the variable's full name as the user wrote it."""
        return (OWN_PREFIX if OWN_PREFIX + name in self._environment else THEIR_PREFIX) + name

    def text(self, name: str, default: str = "") -> str:
        return self._environment.get(self.name(name)) or default

    def boolean(self, name: str, *, default: bool) -> bool:
        return self.choice(name, str(default).lower(), ("true", "false")) == "true"

    def choice(self, name: str, default: str, choices: Tuple[str, ...]) -> str:
        text = self.text(name, default).lower()
        if text not in choices:
            raise SettingError("%s: %r must be one of %s" % (self.name(name), text, ", ".join(choices)))
        return text

    def number(self, name: str, default: int, least: int = 0) -> int:
        return _number(self.name(name), self.text(name, str(default)), least)

    def folders(self, name: str, default: str) -> Tuple[str, ...]:
        """Return the folders of a list; an empty variable means none."""
        return tuple(each for each in self._environment.get(self.name(name), default).split(":") if each)

    def hexadecimal(self, name: str) -> bytes:
        try:
            return bytes.fromhex(self.text(name))
        except ValueError:
            # The key is a secret, so the text does not contain it.
            raise SettingError("%s: must be hexadecimal digits, two for each byte" % self.name(name)) from None

    def words(self, name: str) -> Words:
        """Return an entrypoint or command from base64 of JSON."""
        text = self.text(name)
        if not text:
            return None
        try:
            value: Any = json.loads(base64.b64decode(text, validate=True).decode("utf-8"))
        except ValueError as error:
            raise SettingError("%s: must be base64 of JSON (%s)" % (self.name(name), error)) from None
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise SettingError("%s: must be a string, or a list of strings" % self.name(name))


def _split(name: str, text: str) -> Tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise SettingError("%s: %r cannot be split into words as in a shell: %s" % (name, text, error)) from None


def _number(name: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise SettingError("%s: %r must be a whole number of at least %d" % (name, text, least))
    return value
