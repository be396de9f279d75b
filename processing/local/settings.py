"""The settings of the embedded engine: the way in which it runs jobs."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args

import attrs

from processing._utils import NO_WORKING_DIRECTORY, absolute
from processing._utils.validation import NAME, PATH, TEXT, Kind, field, integer, is_number, number, one_of, shown
from processing.exceptions import ConfigurationError, EngineError
from processing.local.image_programs import MODULE, ImageProgram, find_program
from processing.local.interpreter import Interpreter

SandboxSetting = Literal["auto", "bubblewrap", "namespaces", "rewriting", "container"]
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
S3_VARIABLE = "AWS_ENDPOINT_URL_S3"
PYTHON_VARIABLE = "PROCESSING_LOCAL_PYTHON"
CONTAINER_OPTIONS_VARIABLE = "PROCESSING_LOCAL_CONTAINER_OPTIONS"


def _pairs(images: Any) -> Any:
    """Return a mapping, or pairs, as a tuple of pairs of texts. Any other value is returned for the validator."""
    try:
        pairs = images.items() if hasattr(images, "items") else images
        return tuple((os.fspath(image), os.fspath(python)) for image, python in pairs)
    except (TypeError, ValueError):
        return images


def _number(value: Any) -> Any:
    """Return a number, or the text of one, as a float. Any other value is returned for the validator."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return float(value) if is_number(value) else value


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _place(value: Any) -> Any:
    # Absolute, because the processes that write there have other working directories.
    if not PATH.accepts(value):
        return value
    place = absolute(Path(os.path.expanduser(value)))  # noqa: PTH111 - no error without a home
    if place is None:
        raise ConfigurationError(f"events_file: {value!r} {NO_WORKING_DIRECTORY}")
    return os.path.normpath(place)


def _texts(values: Any) -> Any:
    return tuple(values) if isinstance(values, (list, tuple)) else values


def _options(instance: Any, attribute: Any, value: Any) -> None:
    del instance
    if not isinstance(value, tuple) or not all(TEXT.accepts(each) and "\0" not in each for each in value):
        raise ConfigurationError(
            f'{attribute.name}: must be a sequence of texts, such as ("--runtime", "runc"), not {shown(value)}'
        )
    if value and not value[0].startswith("-"):
        raise ConfigurationError(f"{attribute.name}: must begin with an option, not with {value[0]!r}")


def _modules(instance: Any, attribute: Any, value: Any) -> None:
    del instance
    expected = f"{attribute.name}: must be a mapping of patterns of image URIs to modules"
    if not isinstance(value, tuple):
        raise ConfigurationError(f"{expected}, not {shown(value)}")
    for pair in value:
        if not isinstance(pair, tuple):
            raise ConfigurationError(f"{expected}, not {shown(value)}")
        pattern, module = pair
        if not NAME.accepts(pattern):
            raise ConfigurationError(f'{expected}; {pattern!r} is no pattern, such as "*/kmeans:*"')
        if not TEXT.accepts(module) or not MODULE.fullmatch(module):
            raise ConfigurationError(f'{expected}; {module!r} of {pattern!r} is no module, such as "package.module"')


_PAIRS = Kind(
    "a mapping of image URIs to interpreters",
    lambda value: (
        isinstance(value, tuple)
        and all(isinstance(pair, tuple) and NAME.accepts(pair[0]) and NAME.accepts(pair[1]) for pair in value)
    ),
)
_PYTHON = Kind("the path of an interpreter or a virtual environment", NAME.accepts)
_PROGRAM = Kind("the name or path of a program, or None", NAME.accepts)


@attrs.frozen
class EngineSettings:
    """The settings for jobs on this machine.

    Attributes:
        tick: seconds between two checks of a host for a stop request. The end of the program is detected at once,
            with any tick.
        grace: seconds between SIGTERM and SIGKILL when a job is stopped. For SageMaker 120 are assumed. An endpoint's
            program gets 30 at most, and that of a transform job 2.
        sandbox: the sandbox in which a job sees its own /opt/ml. `auto` selects the first of bubblewrap, namespaces
            and rewriting that works on this machine. `container` really runs the image, with podman or docker.
        python: the interpreter, or the directory of a virtual environment, that runs `python` and `python3` of a
            job's entrypoint. None: the environment variable PROCESSING_LOCAL_PYTHON, else the Python of the process
            that creates the job.
        images: pairs of an image URI and the `python` for jobs with that image; a mapping is accepted.
        programs: pairs of a pattern of image URIs, as in a shell, and a module; a mapping is accepted. For an image
            that matches, a training job runs `python -m MODULE train`, and an endpoint or a transform job
            `python -m MODULE serve`. The programs for AWS's built-in algorithms come after them. With the sandbox
            `container` images run themselves.
        container_program: the program that runs containers, its name or path. None: podman, else docker.
        container_options: further options of its `run`, such as `("--runtime", "runc")`. Empty: those of the
            environment variable PROCESSING_LOCAL_CONTAINER_OPTIONS, written as in a shell.
        cpus: the CPUs that each host of a job may use; None for all.
        memory_gb: the memory that each host may use, in GiB; None for no limit.
        events_file: a file to which each state change of a job is appended, as a line with EventBridge's JSON.
        events_queue: the name of a queue in the engine's SQS that receives the same events.
        s3_endpoint: the URL of another S3 to use instead of the engine's own; None for the environment's
            AWS_ENDPOINT_URL_S3, if it is set.
        sample: seconds between two samples of a host's CPU, memory and disk.
    """

    tick: float = attrs.field(default=0.05, converter=_number, validator=field(number(above=0)))
    grace: float = attrs.field(default=120.0, converter=_number, validator=field(number(at_least=0)))
    sandbox: SandboxSetting = attrs.field(default="auto", validator=field(one_of(*get_args(SandboxSetting))))
    python: str | None = attrs.field(default=None, converter=_text, validator=field(_PYTHON, optional=True))
    images: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs, validator=field(_PAIRS))
    programs: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs, validator=_modules)
    container_program: str | None = attrs.field(default=None, converter=_text, validator=field(_PROGRAM, optional=True))
    container_options: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=_options)
    cpus: int | None = attrs.field(default=None, validator=field(integer(at_least=1), optional=True))
    memory_gb: float | None = attrs.field(
        default=None, converter=_number, validator=field(number(above=0), optional=True)
    )
    events_file: str | None = attrs.field(default=None, converter=_place, validator=field(PATH, optional=True))
    events_queue: str | None = attrs.field(default=None, converter=_text, validator=field(TEXT, optional=True))
    s3_endpoint: str | None = attrs.field(default=None, converter=_text, validator=field(TEXT, optional=True))
    sample: float = attrs.field(default=1.0, converter=_number, validator=field(number(above=0)))

    def __attrs_post_init__(self) -> None:
        self.check_sinks()

    def check_sinks(self) -> None:
        """Check that events can be written to the file and sent to the queue.

        Raises:
            ConfigurationError: `events_file` cannot be written to, or `events_queue` is not the name of a queue.
        """
        if self.events_queue is not None and not _QUEUE_NAME.fullmatch(self.events_queue):
            raise ConfigurationError(
                f"events_queue: {self.events_queue!r} is not the name of a queue: 1 to 80 letters, digits, - and _"
            )
        if self.events_file is None:
            return
        place = Path(self.events_file)
        try:
            place.lstat()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ConfigurationError(f"events_file: {error}") from error
        if not place.parent.is_dir():
            raise ConfigurationError(f"events_file: {place}: there is no folder {place.parent}")
        if place.exists() and not place.is_file():
            raise ConfigurationError(f"events_file: {place} is not a file")
        if not os.access(place if place.exists() else place.parent, os.W_OK):
            raise ConfigurationError(f"events_file: {place} cannot be written to")

    @property
    def remote_s3_endpoint(self) -> str | None:
        """The URL of the S3 in place of the engine's own; None for the engine's own.

        Raises:
            EngineError: the setting or the variable is not a URL.
        """
        setting, endpoint = "s3_endpoint", self.s3_endpoint
        if endpoint is None:
            setting, endpoint = S3_VARIABLE, os.environ.get(S3_VARIABLE) or None
        if endpoint is not None and not re.match(r"https?://[^/\s]", endpoint):
            raise EngineError(f"{setting}: {endpoint!r} is not the URL of an S3, such as http://127.0.0.1:9000")
        return endpoint

    def to_json(self) -> str:
        """Return the settings as a JSON object."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EngineSettings:
        """Return the settings that `to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def runs_images(self) -> bool:
        """True if a job's image itself runs, so that a job needs neither an entrypoint nor an interpreter."""
        return self.sandbox == "container"

    def resolved_container_options(self) -> tuple[str, ...]:
        """Return the further options of `run`: the setting, or the environment variable's if the setting is empty.

        Raises:
            ConfigurationError: the variable's quotes do not match.
        """
        if self.container_options:
            return self.container_options
        import shlex

        try:
            return tuple(shlex.split(os.environ.get(CONTAINER_OPTIONS_VARIABLE, "")))
        except ValueError as error:
            raise ConfigurationError(f"{CONTAINER_OPTIONS_VARIABLE}: {error}") from None

    def program(self, image: str) -> ImageProgram | None:
        """Return the program that stands in for `image`; None if there is none.

        Raises:
            ConfigurationError: the module does not exist.
        """
        return find_program(image, self.programs)

    def interpreter(self, image: str) -> Interpreter:
        """Return the Python that stands in for `image`.

        Raises:
            ConfigurationError: the setting names neither an interpreter nor a virtual environment.
        """
        for known, python in self.images:
            if known == image:
                return Interpreter.find(python, f"images[{image!r}]")
        if self.python is not None:
            return Interpreter.find(self.python, "python")
        variable = os.environ.get(PYTHON_VARIABLE)
        if variable:
            return Interpreter.find(variable, PYTHON_VARIABLE)
        return Interpreter.find(sys.executable, "python")
