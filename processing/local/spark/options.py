"""The command line of `smspark-submit`: that of AWS's images, which differs from that of `spark-submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VALUES = {
    "--class": "main_class",
    "--py-files": "py_files",
    "--jars": "jars",
    "--files": "files",
    "--local-spark-event-logs-dir": "events_folder",
    "--spark-event-logs-s3-uri": "events_uri",
}
_FLAGS = {"-v": "verbose", "--verbose": "verbose"}


class UsageError(Exception):
    """A command line that `smspark-submit` does not accept."""


class SubmitOptions(NamedTuple):
    """The parsed command line.

    Attributes:
        application: the application, a Python script or a jar.
        arguments: its arguments.
        main_class: the application's main class.
        py_files: the value of `--py-files`.
        jars: the value of `--jars`.
        files: the value of `--files`.
        events_folder: the folder for Spark's event logs.
        events_uri: the S3 prefix for Spark's event logs.
        verbose: whether `spark-submit` shows its settings.
    """

    application: str
    arguments: tuple[str, ...] = ()
    main_class: str | None = None
    py_files: str | None = None
    jars: str | None = None
    files: str | None = None
    events_folder: str | None = None
    events_uri: str | None = None
    verbose: bool = False


def parse_options(words: Sequence[str]) -> SubmitOptions:
    """Return the parsed command line, without the program's own name.

    Raises:
        UsageError: an option is unknown or has no value, or there is no application.
    """
    rest = iter(words)
    found: dict[str, str | bool] = {}
    for word in rest:
        if word == "--":
            continue
        if not word.startswith("-"):
            return SubmitOptions(word, tuple(rest), **found)  # type: ignore[arg-type]  # by the tables above
        name, value = _option(word, rest)
        found[name] = value
    raise UsageError("Missing argument 'APP'.")


def _option(word: str, rest: Iterator[str]) -> tuple[str, str | bool]:
    if word in _FLAGS:
        return _FLAGS[word], True
    option, equals, value = word.partition("=")
    if option not in _VALUES:
        known = ", ".join([*_VALUES, "--verbose"])
        raise UsageError(f"No such option: {option}. The options are {known}; use `configuration` for other settings.")
    if equals:
        return _VALUES[option], value
    try:
        return _VALUES[option], next(rest)
    except StopIteration:
        raise UsageError(f"Option {option} requires an argument.") from None
