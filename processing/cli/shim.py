"""The command `processing-shim`: the shim itself, and the commands that put it into images."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from processing.container.shim import commands
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = re.compile(r"(\.{0,2}/.*)|.*\.(tar|tgz|gz|bz2|xz|oci)")
"""An image that the user means as a file, even if it is missing. Others are names in a registry."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    The code is 2 for wrong usage and for an image that cannot be patched; the others are those of the shim.

    Args:
        arguments: the arguments after `processing-shim`, by default those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    builder = _BUILDERS.get(words[0]) if words else None
    if builder is None:
        return commands.main(words, others=_HELP)
    try:
        return builder(words[1:])
    except ConfigurationError as error:
        sys.stderr.write(f"processing-shim: error: {error}\n")
        return 2


def _patch(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="processing-shim patch",
        description="Add the shim to an archive of an image. Its entrypoint and command are kept for the shim.",
    )
    parser.add_argument("image", help="the archive; for a name in a registry, print the commands to use")
    parser.add_argument("-o", "--output", help="the new archive")
    parser.add_argument("--shim", choices=["zipapp", "static"], default="zipapp", help="the form (default: zipapp)")
    parser.add_argument("--binary", help="the static shim that scripts/build-shim made")
    parser.add_argument("--tag", help="the new image's name (default: that of the image with -shim)")
    parser.add_argument("--platform", help="the platform to choose, such as linux/amd64")
    parser.add_argument("--python", help="the path of Python in the image (default: the first in its PATH)")
    options = parser.parse_args(words)
    from processing.images import archive

    if options.output is None:
        if Path(options.image).exists() or _FILE.fullmatch(options.image):
            raise ConfigurationError("--output: name the new archive")
        sys.stdout.write(archive.registry_commands(options.image, options.tag) + "\n")
        return 0
    done = archive.patch_image(
        options.image,
        options.output,
        shim=options.shim,
        binary=options.binary,
        tag=options.tag,
        platform=options.platform,
        python=options.python,
    )
    sys.stdout.write(f"{done.path}: {done.tag or 'an image without a name'}\n")
    return 0


def _zipapp(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="processing-shim zipapp", description="Make the shim as one executable file for images with Python."
    )
    parser.add_argument("-o", "--output", required=True, help="the file")
    parser.add_argument("--interpreter", default="/usr/bin/env python3", help="Python (default: %(default)s)")
    version = "{}.{}".format(*sys.version_info[:2])
    parser.add_argument(
        "--python-version", default=version, help="the oldest Python that its botocore supports (default: %(default)s)"
    )
    parser.add_argument("--without-botocore", action="store_true", help="for images that have boto3")
    options = parser.parse_args(words)
    found = re.fullmatch(r"(\d)\.(\d{1,2})", options.python_version)
    from processing.images.zipapp import OLDEST, botocore_for, build_zipapp

    if found is None or (oldest := (int(found[1]), int(found[2]))) < OLDEST:
        raise ConfigurationError(f"--python-version: must be such as 3.8 or later, not {options.python_version}")
    data = build_zipapp(options.interpreter, None if options.without_botocore else botocore_for(oldest))
    try:
        target = Path(options.output)
        target.write_bytes(data)
        target.chmod(0o755)
    except OSError as error:
        raise ConfigurationError(f"--output: {error}") from error
    return 0


_HELP = {
    "patch": "add the shim to an archive of an image",
    "zipapp": "make the shim as one file for images with Python",
}
_BUILDERS: dict[str, Callable[[list[str]], int]] = {"patch": _patch, "zipapp": _zipapp}
