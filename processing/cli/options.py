"""The options that several commands share: the place of the jobs, and the form of the result."""

from __future__ import annotations

import datetime as dt
import os
import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.session.session import Session

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Target:
    """The place of the jobs: AWS, or the engine on this machine.

    Args:
        local: True for the engine.
        region: the AWS region; None for that of the environment.
        profile: the profile of AWS's config files; None for that of the environment.
    """

    def __init__(self, *, local: bool, region: str | None, profile: str | None) -> None:
        if local and (region or profile):
            option = "--region" if region else "--profile"
            raise click.UsageError(f"{option}: is for AWS, and --local is this machine; leave one of them out")
        self._region = region
        self._profile = profile
        self.is_local = local or (os.environ.get("PROCESSING_TARGET") == "local" and not (region or profile))

    @property
    def region(self) -> str | None:
        """The region that was given; None for that of the environment."""
        return self._region

    def session(self) -> Session:
        """Return the session that reaches the jobs."""
        from processing.default_sessions import session_for_attach
        from processing.local.session import LocalSession
        from processing.session.session import Session

        if self.is_local:
            return LocalSession()
        if self._region is None and self._profile is None:
            return session_for_attach()
        if self._profile is None:
            return Session(region_name=self._region)
        import boto3

        return Session(boto3.Session(profile_name=self._profile, region_name=self._region))


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--local`, `--region` and `--profile` to a command, which gets them as one `target`."""

    def command(*args: Any, local: bool, region: str | None, profile: str | None, **kwargs: Any) -> Any:
        return function(*args, target=Target(local=local, region=region, profile=profile), **kwargs)

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--profile", metavar="NAME", help="The profile of AWS's config files."),
        click.option("--region", metavar="REGION", help="The AWS region."),
        click.option("--local", is_flag=True, help="The engine on this machine instead of AWS."),
    ):
        command = option(command)
    return command


output_option: Final = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The form of the result.",
)


class Age(click.ParamType[Any]):
    """An age such as `2h` or `7d`, or a moment such as `2026-11-30` or `2026-11-30T12:00`."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a timedelta or a datetime."""
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", value.strip())
        if match:
            return dt.timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        try:
            return dt.datetime.fromisoformat(value.strip())
        except ValueError:
            self.fail(f"{value!r} is neither an age such as 2h or 7d nor a moment such as 2026-11-30T12:00", param, ctx)


class Pair(click.ParamType[tuple[str, str]]):
    """A text of the form NAME=VALUE."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the name and the value."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals or not name.strip():
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        return name.strip(), text
