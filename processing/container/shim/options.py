"""Command line of `processing-shim`, and the settings that its options replace."""

from __future__ import annotations

import argparse
from typing import List, Mapping, NamedTuple, Tuple

from processing.container.shim.errors import SettingError
from processing.container.shim.hosts import job_name
from processing.container.shim.settings import Proxy, Settings, check_port, check_proxy


class _Choice(NamedTuple):
    """A command, its line in the list of commands, and its description."""

    name: str
    help: str
    description: str


_COMMANDS = (
    _Choice("run", "run PROGRAM once, or for each task", "Run PROGRAM once, or for each task."),
    _Choice("invoke", "run the program for each task", "Run the program for each task."),
    _Choice(
        "train",
        "run the program in a training job",
        "Run the program with the channels of a training job, or for each task of the channel `tasks`.",
    ),
    _Choice(
        "serve",
        "run the program for each request to a web server",
        "Run the program for each request to a web server, or forward the requests to it.",
    ),
)
_CHECK = _Choice(
    "check",
    "report whether a program or an image keeps SageMaker's contract",
    "Report whether PROGRAM, or an image, keeps the contract of SageMaker.",
)


def split_words(words: List[str]) -> Tuple[List[str], List[str]]:
    """Return the words before the first `--` and those after it: the program and its arguments."""
    if "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]


def parse_options(words: List[str], others: Mapping[str, str]) -> argparse.Namespace:
    """Return the options among the words before the program; exit with 2 after wrong ones.

    Args:
        words: the words.
        others: further commands, with their lines in the list of commands.
    """
    parser = _make_parser(others)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        kind = "option" if unknown[0].startswith("-") else "word"
        parser.error(
            "%s has no %s %r; the program and its arguments come after --, as in: processing-shim run -- python a.py"
            % (options.command, kind, unknown[0])
        )
    return options


def _make_parser(others: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of the words before the program."""
    parser = argparse.ArgumentParser(
        prog="processing-shim",
        usage="processing-shim [-h] COMMAND [OPTION ...] [-- PROGRAM [ARGUMENT ...]]",
        description="Adapt a program to SageMaker. A task names objects in S3: the shim downloads them to /input, "
        "runs the program, and uploads /output.",
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True, prog="processing-shim"
    )
    for choice in _COMMANDS:
        command = commands.add_parser(choice.name, help=choice.help, description=choice.description)
        command.add_argument("--signed", action="store_true", help="refuse to start without a key for signatures")
        command.add_argument("--exit-zero", action="store_true", help="exit with 0 after failures of tasks")
        command.add_argument("--plain", action="store_true", help="log plain text in place of JSON")
        if choice.name == "serve":
            command.add_argument("--busy", choices=["wait", "refuse"], help="the answer to a second task at a time")
            command.add_argument("--port", type=int, help="the port (default: SAGEMAKER_BIND_TO_PORT, or 8080)")
            _add_proxy(command)
            continue
        command.add_argument("--keep-going", action="store_true", help="run the other tasks after one has failed")
        if choice.name == "train":
            continue
        source = command.add_mutually_exclusive_group()
        source.add_argument("-t", "--tasks", metavar="JSON", help="tasks: a JSON list, or one JSON object")
        source.add_argument("-f", "--file", metavar="URI", help="a file of tasks: s3://bucket/key, or a path")
        command.add_argument(
            "--hosts", metavar="FILE", help="run the tasks of this host in a resourceconfig.json alone"
        )
    _add_check(commands.add_parser(_CHECK.name, help=_CHECK.help, description=_CHECK.description))
    for name, text in others.items():
        commands.add_parser(name, help=text)
    return parser


def _add_check(command: argparse.ArgumentParser) -> None:
    kind = command.add_mutually_exclusive_group()
    kind.add_argument("--serve", action="store_true", help="the program serves, as for endpoints and transform jobs")
    kind.add_argument(
        "--train", action="store_true", help="the program trains; by default it is one of a processing job"
    )
    command.add_argument(
        "--wait", type=float, metavar="SECONDS", help="the time to be healthy (default: 60), or to end"
    )
    command.add_argument("--port", type=int, help="the port (default: SAGEMAKER_BIND_TO_PORT, or 8080)")
    group = command.add_argument_group("image", "The image is run with `serve` or `train`, or the words after --.")
    group.add_argument("--image", metavar="IMAGE", help="an image, to run with podman or docker")
    group.add_argument("--client", metavar="PROGRAM", help="another client than podman or docker")
    group.add_argument("--env", action="append", metavar="NAME=VALUE", help="a variable of the container")
    group.add_argument("--model", metavar="FOLDER", help="the folder for /opt/ml/model")
    command.set_defaults(plain=False, exit_zero=False)


def _add_proxy(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("proxy", "The program is a web server. Each request is forwarded to it.")
    group.add_argument("--proxy", type=int, metavar="PORT", help="the program's port")
    group.add_argument("--ping", metavar="PATH", help="the path of its health, or tcp (default: /ping)")
    group.add_argument(
        "--route",
        action="append",
        metavar="PATH",
        help="the path of its invocations (default: /invocations). If repeated, CustomAttributes with route=PATH "
        "choose one other than the first",
    )
    group.add_argument("--timeout", type=float, metavar="SECONDS", help="its longest silence (default: 3600)")
    group.add_argument("--concurrency", type=int, metavar="N", help="the most invocations at a time (default: any)")


def with_options(settings: Settings, options: argparse.Namespace) -> Settings:
    """Return the settings with the options of the command line, which count before variables."""
    if options.plain:
        settings = settings._replace(log_format="plain")
    if options.command in {"check", "serve"} and options.port is not None:
        settings = settings._replace(port=check_port("--port", options.port))
    if getattr(options, "hosts", None) is not None:
        settings = settings._replace(job_name=job_name(options.hosts))
    if options.command == "train":
        settings = settings._replace(grace=settings.train_grace)
    if options.command == "serve":
        settings = settings._replace(busy=options.busy or settings.busy, proxy=_proxy(settings, options))
        if settings.proxy.port == settings.port > 0:
            raise SettingError("--proxy: %d is the port of the shim; the program needs another one" % settings.port)
    return settings


def _proxy(settings: Settings, options: argparse.Namespace) -> Proxy:
    """Return the settings of the proxy with the options of the command line."""
    given = settings.proxy
    proxy = Proxy(
        given.port if options.proxy is None else options.proxy,
        given.ping if options.ping is None else options.ping,
        given.routes if options.route is None else tuple(options.route),
        given.seconds if options.timeout is None else options.timeout,
        given.concurrency if options.concurrency is None else options.concurrency,
        given.max_payload,
    )
    check_proxy(proxy)
    if options.proxy is not None and not options.proxy:
        raise SettingError("--proxy: 0 must be a port from 1 to 65535")
    if not 0 < proxy.seconds < float("inf"):
        raise SettingError("--timeout: %r must be a number of seconds above 0" % proxy.seconds)
    if proxy.concurrency < 0:
        raise SettingError("--concurrency: %d must be 0 or more" % proxy.concurrency)
    return proxy
