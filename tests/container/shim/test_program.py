"""The program's command by Docker's rules, its user, and the settings that the environment has."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest

from processing.container.shim.commands import main
from processing.container.shim.errors import SettingError, ShimError
from processing.container.shim.program import docker_command
from processing.container.shim.settings import program_environment, read_settings
from processing.container.shim.users import find_user


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, ("c", "d"), ["c", "d"]),
        (None, "c d", ["/bin/sh", "-c", "c d"]),
        (("a", "b"), None, ["a", "b"]),
        (("a", "b"), ("c",), ["a", "b", "c"]),
        (("a", "b"), "c d", ["a", "b", "/bin/sh", "-c", "c d"]),
        ("a b", ("c",), ["/bin/sh", "-c", "a b"]),
        ("a b", "c", ["/bin/sh", "-c", "a b"]),
    ],
)
def test_the_command_follows_docker(entrypoint: Any, command: Any, expected: list[str]) -> None:
    """An entrypoint and a command, each in exec or shell form, become one command as in Docker."""
    names = {"ENTRYPOINT_B64J": entrypoint, "CMD_B64J": command}
    given = {
        f"GRAND_CHALLENGE_COMPONENT_{name}": base64.b64encode(json.dumps(value).encode()).decode()
        for name, value in names.items()
    }
    settings = read_settings(given)
    assert docker_command(settings.entrypoint, settings.command) == expected


def test_a_machine_without_a_further_thread_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that cannot be watched does not run, and the reason is named."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert main(["run", "--", "sleep", "300"]) == 1
    assert "The program 'sleep' cannot be started: can't start new thread" in capsys.readouterr().err


def test_no_program_is_an_error() -> None:
    """Without an entrypoint and a command, the error names the places of a program."""
    with pytest.raises(SettingError, match="after --"):
        docker_command(None, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_MEMORY_MB", "x"),
        ("ASYNC_CONCURRENCY", "0"),
        ("SIGTERM_GRACE_SECONDS", "-1"),
        ("USE_LINKED_INPUT", "maybe"),
        ("CMD_B64J", "%"),
        ("CMD_B64J", base64.b64encode(b"[1]").decode()),
        ("SIGNING_KEY_HEX", "secret"),
        ("API_METHOD", "call"),
        ("LOG_FORMAT", "xml"),
    ],
)
@pytest.mark.parametrize("prefix", ["PROCESSING_SHIM_", "GRAND_CHALLENGE_COMPONENT_"])
def test_a_wrong_variable_is_named(prefix: str, name: str, value: str) -> None:
    """A variable with an impossible value is named as the user wrote it, and a key is not shown."""
    with pytest.raises(SettingError, match=f"^{prefix}{name}: ") as caught:
        read_settings({prefix + name: value})
    assert "secret" not in str(caught.value)


def test_folders_are_left_alone_outside_grand_challenge() -> None:
    """No folder is emptied, made or linked unless a variable of Grand Challenge is set, or asks for it."""
    settings = read_settings({})
    assert (settings.cleaned_folders, settings.writable_folders, settings.linked_input_parent) == ((), (), None)
    theirs = read_settings({"GRAND_CHALLENGE_COMPONENT_SET_EXTRA_GROUPS": "true"})
    assert "/opt/ml/model" in theirs.cleaned_folders
    assert theirs.linked_input_parent == "/opt/ml/input/data"
    assert read_settings({"PROCESSING_SHIM_MAX_MEMORY_MB": "1", "GRAND_CHALLENGE_COMPONENT_MAX_MEMORY_MB": "2"})[4] == 1


def test_the_image_s_library_path_returns() -> None:
    """The program has the LD_LIBRARY_PATH of the image, not that of a static binary."""
    given = {"LD_LIBRARY_PATH": "/tmp/x", "LD_LIBRARY_PATH_ORIG": "/lib"}
    assert program_environment(given, keep_credentials=False) == {"LD_LIBRARY_PATH": "/lib"}


@pytest.mark.parametrize(
    ("text", "uid", "gid"),
    [("root", 0, 0), ("0:5", 0, 5), ("54321", 54321, 0), (":7", None, 7), ("54321:root", 54321, 0)],
)
def test_users(text: str, uid: int | None, gid: int) -> None:
    """A user and a group are names or ids; an id need not be known."""
    user = find_user(text)
    assert user is not None
    assert (user.uid, user.gid, user.groups[0]) == (uid, gid, gid)


@pytest.mark.parametrize("text", ["no-such-user", "root:no-such-group", "a b", "a:b:c"])
def test_an_unknown_user_is_an_error(text: str) -> None:
    """A name that the image does not know is an error that contains it."""
    with pytest.raises(ShimError, match=r"user|group"):
        find_user(text)
