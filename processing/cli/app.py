"""The commands by name. A command's module is imported when the command is used, so that `--help` is quick."""

from __future__ import annotations

import _thread
import importlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class CommandEntry(NamedTuple):
    """A command in the list of commands.

    Attributes:
        module: the module below `processing.cli.commands`.
        help: the line about it in the list.
        section: the title under which it is listed.
    """

    module: str
    help: str
    section: str


_JOBS, _MANY, _TOOLS = "Jobs", "Many jobs", "Tools"
COMMANDS: Final[Mapping[str, CommandEntry]] = {
    "run": CommandEntry("run", "run a script, or a job file, as a job", _JOBS),
    "ls": CommandEntry("ls", "list jobs", _JOBS),
    "describe": CommandEntry("describe", "show a job's settings and state", _JOBS),
    "logs": CommandEntry("logs", "show a job's log lines", _JOBS),
    "attach": CommandEntry("attach", "follow a job to its end", _JOBS),
    "wait": CommandEntry("wait", "wait for the end of jobs", _JOBS),
    "stop": CommandEntry("stop", "stop jobs", _JOBS),
    "rm": CommandEntry("rm", "delete jobs that have ended", _JOBS),
    "outputs": CommandEntry("outputs", "show or download a job's outputs", _JOBS),
    "rerun": CommandEntry("rerun", "run a job again, with changes", _JOBS),
    "diff": CommandEntry("diff", "compare the settings of two jobs", _JOBS),
    "top": CommandEntry("top", "show the CPU, memory and disk use of a job's hosts", _JOBS),
    "cost": CommandEntry("cost", "show the price of a job", _JOBS),
    "report": CommandEntry("report", "write the cards of jobs and endpoints into one HTML file", _JOBS),
    "replay": CommandEntry("replay", "make the call of a remote function again, here", _JOBS),
    "export": CommandEntry("export", "write a job for Airflow, Step Functions, Pipelines or Python", _JOBS),
    "fleet": CommandEntry("fleet", "show, stop or repeat the jobs of a fleet", _MANY),
    "images": CommandEntry("images", "list AWS's images for frameworks", _TOOLS),
    "iam": CommandEntry("iam", "print the IAM policies for a job", _TOOLS),
    "config": CommandEntry("config", "show the defaults and their origin", _TOOLS),
    "doctor": CommandEntry("doctor", "find obstacles for a script on this machine", _TOOLS),
    "local": CommandEntry("local", "serve, show, list and clean the engine on this machine", _TOOLS),
    "completion": CommandEntry("completion", "print the completion script of a shell", _TOOLS),
}
"""The commands in the order of the help."""


class LazyGroup(click.Group):
    """The group of all commands."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; return None if there is no such command."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"processing.cli.commands.{COMMANDS[name].module}")
        command: click.Command = module.command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        for title in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            rows = [(name, entry.help) for name, entry in COMMANDS.items() if entry.section == title]
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is an error with the closest name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from processing._utils import did_you_mean

            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        # An import of `processing` here would be one of all its modules to the linter of the layers.
        click.echo(f"sm-processing {sys.modules['processing'].__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Jobs are looked for on AWS, or with --local or PROCESSING_TARGET=local on this machine's engine.",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def app() -> None:
    """Run AWS SageMaker Processing jobs: on AWS, or on this machine."""


def run(words: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    if "_PROCESSING_COMPLETE" in os.environ:  # a shell asks for completions
        app.main(list(words), prog_name="processing")
    from processing.cli import exit_codes  # `--help` does without the tree of errors

    with Interrupts():
        return exit_codes.flushed(lambda: _run(list(words)))


def _run(words: list[str]) -> int:
    from processing.cli import exit_codes

    try:
        with app.make_context("processing", words, obj=tuple(words)) as ctx:
            from processing.cli import notices  # not for `--help`, which has ended by now

            with notices.reported():
                result = app.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return exit_codes.INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - unknown errors are raised again there
        return exit_codes.end_by(error)
    return result if isinstance(result, int) else exit_codes.COMPLETED


# Long enough to leave the finalizer in which an interrupt was dropped, and too short for a person to notice.
_SOON: Final = 0.01


class Interrupts:
    """Ctrl-C within the block: the first one is a KeyboardInterrupt, and the second one ends the process at once.

    Python drops an error that is raised in a finalizer, and a signal may arrive while a finalizer runs. An interrupt
    that was dropped there is raised again, a moment later.
    """

    def __enter__(self) -> None:
        self._before: Any = None
        self._report_before = sys.unraisablehook
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if self._before is not signal.SIG_IGN:  # a shell that starts a program in the background ignores Ctrl-C
                signal.signal(signal.SIGINT, self._interrupt)
                sys.unraisablehook = self._interrupt_again

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            sys.unraisablehook = self._report_before

    @staticmethod
    def _interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    def _interrupt_again(self, dropped: sys.UnraisableHookArgs) -> None:
        here = threading.current_thread() is threading.main_thread()
        if not (here and issubclass(dropped.exc_type, KeyboardInterrupt)):
            self._report_before(dropped)
            return
        signal.signal(signal.SIGINT, self._interrupt)
        # An interrupt at once would be raised in this hook, and dropped too.
        timer = threading.Timer(_SOON, _interrupt_main_thread)
        timer.daemon = True
        timer.start()


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)  # it ends the thread's system call, too
    else:
        _thread.interrupt_main()
