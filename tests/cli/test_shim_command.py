"""The command `processing-shim`: its list of commands, and wrong words."""

from __future__ import annotations

import re

import pytest

from processing.cli.shim import main


def test_the_help_has_a_line_for_each_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command has one line, and a help of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = re.findall(r"^    (\w+) +\S.*$", capsys.readouterr().out.partition("COMMAND\n")[2], re.MULTILINE)
    assert listed == ["run", "invoke", "train", "serve", "check", "patch", "zipapp"]
    for name in listed:
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: processing-shim {name} ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["run", "true"], "run has no word 'true'; the program and its arguments come after --"),
        (
            ["serve", "--bogus", "--", "true"],
            "serve has no option '--bogus'; the program and its arguments come after --",
        ),
        (["check", "--image"], "argument --image: expected one argument"),
        (["patch"], "the following arguments are required: image"),
        (["zipapp"], "the following arguments are required: -o/--output"),
    ],
    ids=str,
)
def test_wrong_words_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong word has exit code 2, and a message that names it."""
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err
