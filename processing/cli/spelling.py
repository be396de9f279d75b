"""Error messages in the user's words: the field of a finding becomes the option as it was typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.exceptions import ProcessingError

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "arguments": ("--",),
    "base_job_name": ("--base-job-name",),
    "command": ("--command",),
    "dependencies": ("--dependency",),
    "entry_point": ("--entry-point",),
    "env": ("--env", "-e"),
    "if_exists": ("--if-exists",),
    "image_uri": ("--image",),
    "inputs": ("--input", "-i"),
    "instance_count": ("--instance-count", "-n"),
    "instance_type": ("--instance-type", "-t"),
    "job_name": ("--name",),
    "kms_key": ("--kms-key",),
    "max_runtime_in_seconds": ("--max-runtime",),
    "network_config": ("--subnet", "--security-group", "--network-isolation"),
    "output_kms_key": ("--output-kms-key",),
    "outputs": ("--output", "-o"),
    "placeholders": ("--placeholder",),
    "region": ("--region",),
    "region_name": ("--region",),
    "requirements": ("--requirements",),
    "role": ("--role",),
    "source_dir": ("--source-dir",),
    "tags": ("--tag",),
    "version": ("--image",),
    "framework": ("--image",),
    "volume_size_in_gb": ("--volume-size",),
}
"""The options of `processing run` for each parameter, the usual one first."""

READING: Final[Mapping[str, str]] = {
    "created_after": "--since",
    "framework": "FRAMEWORK",
    "host": "--host",
    "job_name": "--name",
    "name": "NAME",
    "name_prefix": "--name",
    "path": "--download",
    "pattern": "--grep",
    "since": "--since",
    "tags": "--tag",
    "tail": "--tail",
    "timeout": "--timeout",
}
"""The options of the commands that read, for each parameter of the functions that they call."""

# A file that is missing has no colon after its field, as in 2.x.
_NOT_FOUND: Final = re.compile(r"(?P<field>[a-z_]+) (?P<rest>\S.* wasn't found.*)")
_FINDING: Final = re.compile(r"(?P<field>[a-z_0-9]+)(?:\[(?P<index>\d+|'[^']*')\])?(?P<rest>[\w.\[\]']*): ")


def in_options(text: str, options: Mapping[str, str] = READING) -> str:
    """Return the text of an error with options in place of parameters.

    Args:
        text: the text, with a finding in each line.
        options: the option for each parameter.
    """
    lines = []
    for line in text.split("\n"):
        match = _FINDING.match(line)
        option = options.get(match["field"]) if match else None
        lines.append(line if match is None or option is None else f"{option}: {line[match.end() :]}")
    return "\n".join(lines).replace("tagged=False takes", "--untagged takes")


class Spelling:
    """The words of a command line, by the parameters that they set.

    Args:
        words: the words after `processing run`.
        code: the script or job file as it was typed.
        inputs: the inputs as they were typed.
        outputs: the outputs as they were typed.
        file: the job file, whose parameters keep their names unless an option was typed; None without one.
    """

    def __init__(
        self, words: Sequence[str], code: str, inputs: Sequence[str], outputs: Sequence[str], *, file: str | None = None
    ) -> None:
        self._words = words
        self._entries = {"inputs": inputs, "outputs": outputs}
        self._code = code
        self._file = file

    def text(self, error: ProcessingError) -> str:
        """Return the text of an error with the options in place of the parameters."""
        problems = getattr(error, "problems", None)
        lines = [self._line(line) for line in (problems or str(error).split("\n"))]
        return "\n".join(lines).replace("if_exists='attach' or 'suffix'", "--if-exists attach or suffix")

    def _line(self, line: str) -> str:
        missing = _NOT_FOUND.match(line)
        if missing is not None:
            option = self._typed(missing["field"])
            unnamed = missing["rest"] if self._file is None else f"{self._file}: {line}"
            return unnamed if option is None else f"{option} {missing['rest']}"
        match = _FINDING.match(line)
        if match is None:
            return line
        field, index = match["field"], match["index"]
        if field == "code" and self._file is None:
            return f"{self._code}: {line[match.end() :]}"
        option = self._typed(field)
        if option is None:
            return line if self._file is None else f"{self._file}: {line}"
        entries = self._entries.get(field, ())
        if index is not None and index.isdecimal() and int(index) < len(entries):
            option += f" {entries[int(index)]}"
        elif index is not None:
            option += f" {index.strip(chr(39))}" if not index.isdecimal() else f" (number {int(index) + 1})"
        return f"{option}: {line[match.end() :]}"

    def _typed(self, field: str) -> str | None:
        """Return the option as the user typed it, or its usual name if it is missing. None if it was not an option."""
        options = OPTIONS.get(field, ())
        for word in self._words:
            for option in options:
                short = len(option) == 2 and option != "--"
                if word == option or word.startswith(f"{option}=") or (short and word.startswith(option)):
                    return option
        return options[0] if options and self._file is None else None
