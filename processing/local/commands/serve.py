"""The command `serve`: the engine over HTTP in the foreground."""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from processing.exceptions import ConfigurationError
from processing.local.endpoint import ADDRESS
from processing.local.engine import REGION, Engine
from processing.local.settings import EngineSettings, SandboxSetting
from processing.local.transports.server import Server, logging_to, serve_until_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFLICTING = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    *(
        f"AWS_ENDPOINT_URL_{service}"
        for service in ("CLOUDWATCH", "CLOUDWATCH_LOGS", "IAM", "S3", "SAGEMAKER", "SAGEMAKER_RUNTIME", "SQS", "STS")
    ),
)
"""The variables that take precedence over the server's, and would lead a client to another endpoint or account."""

_SETTINGS: tuple[tuple[str, type, str, str], ...] = (
    ("tick", float, "SECONDS", "between two checks of a job for a stop request"),
    ("grace", float, "SECONDS", "between SIGTERM and SIGKILL when a job is stopped"),
    ("python", str, "PATH", "the interpreter or virtual environment that runs jobs"),
    ("container_program", str, "PROGRAM", "runs containers, such as podman"),
    ("cpus", int, "NUMBER", "CPUs that each host of a job may use"),
    ("memory_gb", float, "GIB", "memory that each host may use"),
    ("events_file", str, "FILE", "every state change of a job is appended to it"),
    ("events_queue", str, "NAME", "a queue of the engine that receives every state change"),
    ("s3_endpoint", str, "URL", "another S3 in place of the engine's own"),
    ("sample", float, "SECONDS", "between two samples of a host's metrics"),
)


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to those of a program."""
    parser = commands.add_parser(
        "serve",
        help="serve the engine over HTTP",
        description=f"Serve the engine on {ADDRESS} until SIGTERM or SIGINT. Prints the lines for a shell that point "
        "any AWS client at it.",
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="the engine's folder")
    parser.add_argument("--port", type=_port, default=0, help="the port; by default a free one")
    parser.add_argument(
        "--region", help=f"the region that ARNs name and that images have to fit; by default {REGION}, with any image"
    )
    parser.add_argument("--env-file", type=Path, metavar="FILE", help="also write the lines to FILE, once it serves")
    parser.add_argument("--sandbox", choices=get_args(SandboxSetting), help="how a job sees its /opt/ml")
    parser.add_argument("--image", action="append", metavar="URI=PYTHON", help="the Python for an image; repeatable")
    parser.add_argument(
        "--program",
        action="append",
        metavar="PATTERN=MODULE",
        help="the module that stands in for images whose URI matches the pattern; repeatable",
    )
    parser.add_argument(
        "--container-option",
        action="append",
        metavar="OPTION",
        help="a further option of the container program's `run`",
    )
    for name, kind, metavar, text in _SETTINGS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.set_defaults(run=serve)


def serve(options: argparse.Namespace) -> None:
    """Serve until a signal ends the server.

    Raises:
        ProcessingError, ValueError, TypeError, OSError: the server cannot start; the message has the reason.
    """
    engine = Engine(options.home, _settings(options), region=options.region)
    engine.check()
    engine.settings.remote_s3_endpoint  # noqa: B018 - an invalid URL is an error now, and not for each client later
    try:
        server = Server(engine, port=options.port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"--port: cannot serve on {ADDRESS}:{options.port}: {reason}") from error
    text = shell_lines(server.environment(), os.environ)

    def announce() -> None:
        if options.env_file is not None:
            _write(options.env_file, text)
        sys.stdout.write(text)
        sys.stdout.flush()

    with logging_to(engine.home):
        serve_until_signal(server, on_start=announce)


def shell_lines(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Return the lines for a shell that point clients at a server.

    Args:
        ours: the variables to set.
        theirs: the environment as it is. Its conflicting variables are unset first.
    """
    conflicting = [name for name in CONFLICTING if theirs.get(name) and name not in ours]
    unset = f"unset {' '.join(conflicting)}\n" if conflicting else ""
    return unset + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in ours.items())


def _settings(options: argparse.Namespace) -> EngineSettings:
    parts: dict[str, Any] = {name: getattr(options, name) for name, *_ in _SETTINGS}
    parts |= {"sandbox": options.sandbox, "container_options": options.container_option}
    if options.image:
        parts["images"] = [_pair("--image", "URI=PYTHON", text) for text in options.image]
    if options.program:
        parts["programs"] = [_pair("--program", "PATTERN=MODULE", text) for text in options.program]
    return EngineSettings(**{name: value for name, value in parts.items() if value is not None})


def _pair(option: str, form: str, text: str) -> tuple[str, str]:
    image, equals, value = text.rpartition("=")
    if not equals:
        raise ConfigurationError(f"{option}: {text} is not of the form {form}")
    return image, value


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: a number from 0 to 65535")
    return int(text)


def _write(path: Path, text: str) -> None:
    """Write the lines atomically, readable for their owner alone."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"--env-file: {path} cannot be written: {error.strerror}") from error
