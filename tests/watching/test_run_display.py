"""The display of a run on standard error: a live line on a terminal, plain lines elsewhere, nothing on request."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import processing
from processing import ScriptProcessor
from processing.testing.clock import VirtualClock
from processing.testing.simulation import Life, SimulatedAws, SimulatedLine
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.render.live_line import LiveLine, above_live_line, fitting, note_mid_line
from processing.watching.render.log_lines import Renderer
from processing.watching.render.notebook import NotebookStatus, in_notebook
from processing.watching.render.output import TextOutput
from processing.watching.render.run_display import RunDisplay
from processing.watching.render.run_text import RunFacts, duration, money, phase_of, size, stopwatch
from pseudo_terminal import Terminal, outputs

if TYPE_CHECKING:
    import pathlib

    import pytest

ROLE = "arn:aws:iam::111122223333:role/x"
CONSOLE = "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/processing-jobs/"
STARTED = dt.datetime(2026, 11, 30, tzinfo=dt.timezone.utc)
FACTS = RunFacts("clean", f"{CONSOLE}clean", 3.6)


def changed(status: str, **members: Any) -> StatusChanged:
    return StatusChanged("clean", status, None, {"ProcessingJobStatus": status, **members})


def line(message: str) -> LogEvent:
    return LogEvent("clean", "algo-1", "clean/algo-1-1", 1, 1, "1", message)


def test_a_run_on_aws_says_at_once_what_it_is(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name and console link come before the job runs, each change has one line, and the end has outputs and price."""
    (tmp_path / "clean.py").write_text("print(1)\n")
    clock = VirtualClock()
    aws = SimulatedAws(clock, life=lambda _: Life(starts=60, ends=400, lines=[SimulatedLine(at=300, message="first")]))
    session = aws.session(default_bucket="bucket")
    session.client("s3").create_bucket(Bucket="bucket")
    began: list[float] = []

    def first_upload(_: object) -> None:
        began.append(clock.monotonic())
        assert CONSOLE in capsys.readouterr().err

    begin = clock.monotonic()
    processor = ScriptProcessor(ROLE, "i:1", ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    job = processor.run(
        tmp_path / "clean.py", outputs=["/opt/ml/processing/out"], job_name="clean", progress=first_upload
    )
    assert began[0] - begin < 1
    assert job.console_url == f"{CONSOLE}clean"
    out, err = capsys.readouterr()
    assert out == "first\n"
    uploaded, *changes = err.splitlines()
    assert uploaded.startswith("clean: uploaded 1 file, 9 bytes")
    assert changes == [
        "clean: InProgress: starting",
        "clean: InProgress: downloading",
        "clean: InProgress: running",
        "clean: Completed after 5 min 40 s, 0.0109 USD",
        "  output-1: s3://bucket/clean/output/output-1",
    ]


def test_a_run_that_is_not_awaited_shows_name_and_link(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """wait=False ends after the upload; a later wait shows the job again."""
    (tmp_path / "clean.py").write_text("print(1)\n")
    session = SimulatedAws(VirtualClock()).session(default_bucket="bucket")
    session.client("s3").create_bucket(Bucket="bucket")
    processor = ScriptProcessor(ROLE, "i:1", ["python3"], 1, "ml.m5.large", sagemaker_session=session)
    job = processor.run(tmp_path / "clean.py", job_name="clean", wait=False)
    assert capsys.readouterr().err.splitlines()[0] == f"processing job clean: {CONSOLE}clean"
    job.wait()
    assert capsys.readouterr().err.splitlines()[0] == f"processing job clean: {CONSOLE}clean"


def test_the_live_line_is_below_the_log_lines(terminal: Terminal) -> None:
    """Log lines scroll above the one live line, and nothing of it is left at the end."""
    clock = VirtualClock(STARTED.timestamp())
    with outputs(terminal.out), RunDisplay(clock) as display:
        display.announce(FACTS)
        assert terminal.lines()[-1] == "preparing clean, 0:00"
        display.show_upload(1, 2, 5_000_000, 20_000_000, 1.0)
        display.refresh()
        display._output.update()
        assert terminal.lines()[-1] == "uploading 1 of 2 files, 5.0 MB of 20.0 MB, 0:00"
        display.submitted()
        display.show_event(changed("InProgress", CreationTime=STARTED, ProcessingStartTime=STARTED))
        renderer = Renderer()
        clock.advance(3600)
        for text in ("one", "two"):
            display.show_lines()
            renderer.show(line(text))
            renderer.flush()
        assert terminal.lines()[-3:] == ["one", "two", "InProgress: running, 1:00:00, 3.60 USD so far"]
        ended = STARTED + dt.timedelta(hours=2)
        display.show_event(changed("Completed", ProcessingStartTime=STARTED, ProcessingEndTime=ended))
    assert terminal.lines()[-2:] == ["two", "clean: Completed after 2 h 0 min, 7.20 USD"]


def test_a_job_cannot_forge_the_status(terminal: Terminal) -> None:
    """Its lines cannot move the cursor to the live line, nor erase it."""
    with outputs(terminal.out), RunDisplay(VirtualClock()) as display:
        display.announce(FACTS)
        display.submitted()
        display.show_event(changed("InProgress"))
        renderer = Renderer()
        renderer.show(line("\r\x1b[K\x1b[1;31mclean: Completed\x1b[1A\x1b[2J"))
        renderer.flush()
        assert terminal.lines()[-2:] == ["\\r\\x1b[Kclean: Completed\\x1b[1A\\x1b[2J", "InProgress: starting, 0:00"]


def test_a_narrow_terminal_gets_a_short_line() -> None:
    """Twenty columns hold the phase and the time, on one line."""
    texts = [
        "InProgress: downloading, 1:00:00, 3.60 USD so far",
        "InProgress: downloading, 1:00:00",
        "downloading, 1:00:00",
    ]
    assert [fitting(texts, columns) for columns in (80, 40, 21, 20, 5, 1)] == [*texts, texts[2][:19], "down", "d"]


def test_no_color_and_dumb_terminals(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR removes a job's colours; a dumb terminal has no live line."""
    monkeypatch.setenv("NO_COLOR", "1")
    renderer = Renderer(terminal.out)
    renderer.show(line("\x1b[31mred\x1b[0m"))
    renderer.flush()
    assert terminal.lines() == ["red"]
    assert terminal.screen.buffer[0][0].fg == "default"
    for name, value in (("TERM", "dumb"), ("CI", "true"), ("AIRFLOW_CTX_DAG_ID", "etl")):
        with monkeypatch.context() as patch, outputs(terminal.out), RunDisplay(VirtualClock()) as display:
            patch.setenv(name, value)
            with RunDisplay(VirtualClock()) as recorded:
                assert not recorded._output.changes_in_place
            assert display._output.changes_in_place


def test_one_live_line_at_a_time(terminal: Terminal) -> None:
    """A second run at the same time writes plain lines above the live line of the first."""
    with outputs(terminal.out), RunDisplay(VirtualClock()) as first, RunDisplay(VirtualClock()) as second:
        first.announce(FACTS)
        second.announce(RunFacts("other", "on this machine", 0.0))
        second.show_event(changed("InProgress"))
        assert terminal.lines()[-3:] == [
            "processing job other: on this machine",
            "other: InProgress: starting",
            "preparing clean, 0:00",
        ]


def test_a_closed_error_output_does_no_harm() -> None:
    """Without a standard error, or with a closed one, nothing is shown and nothing raised."""
    closed = io.StringIO()
    closed.close()
    reading, writing = os.pipe()
    os.close(reading)
    broken = os.fdopen(writing, "w")
    for out in (None, closed, broken):
        with outputs(out), RunDisplay(VirtualClock()) as display:
            display.announce(FACTS)
            display.show_upload(1, 1, 1, 1, 0.1)
            display.submitted()
            display.show_event(changed("InProgress"))
            display.show_event(changed("Completed"))
    with contextlib.suppress(BrokenPipeError):
        broken.close()


def test_a_paused_terminal_does_not_hold_up_the_run(terminal: Terminal) -> None:
    """Text that a full terminal does not take is dropped. A blocked write would never return."""
    os.set_blocking(terminal.out.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(terminal.out.fileno(), b"x" * 1024)
    os.set_blocking(terminal.out.fileno(), True)
    with outputs(terminal.out), RunDisplay(VirtualClock()) as display:
        display.announce(FACTS)
        display.show_event(changed("InProgress"))
        display.show_event(changed("Completed"))
        assert display.announced


def test_text_below_a_live_line(terminal: Terminal) -> None:
    """Anything may be written above the line."""
    live = LiveLine(terminal.out, lambda: ["live"])
    assert live.start()
    with above_live_line():
        terminal.out.write("text\n")
        terminal.out.flush()
    assert terminal.lines() == ["text", "live"]
    live.stop()
    assert terminal.lines() == ["text"]


def test_the_live_line_returns_after_a_line_that_was_given_up(terminal: Terminal) -> None:
    """The rest of a line may come for some seconds. Then the line is ended, and the live line drawn below it."""
    live = LiveLine(terminal.out, lambda: ["live"])
    assert live.start()
    with above_live_line():
        terminal.out.write("half of a li")
        terminal.out.flush()
        note_mid_line(mid_line=True)
    for _ in range(2):
        live.tick()
        assert terminal.lines() == ["half of a li"]
    live.tick()
    assert terminal.lines() == ["half of a li", "live"]
    live.stop()
    assert terminal.lines() == ["half of a li"]


def test_a_line_that_goes_on_is_not_ended(terminal: Terminal) -> None:
    """A line that a paused terminal took a part of is whole in the end, with the live line below it."""
    live = LiveLine(terminal.out, lambda: ["live"])
    assert live.start()
    output = TextOutput(terminal.out, VirtualClock())
    with terminal.full():
        output.add("short\n" + "x" * 200 + "\n")
        for _ in range(9):
            live.tick()
    assert output.push(everything=True)
    assert terminal.lines() == ["short", "x" * 80, "x" * 80, "x" * 40, "live"]
    live.stop()


def test_plain_lines_name_their_job() -> None:
    """A large upload is announced, a small one only reported."""
    plain = io.StringIO()
    with outputs(plain), RunDisplay(VirtualClock()) as display:
        display.announce(RunFacts("clean", "eu-west-1"))
        display.show_upload(1, 3, 1_000_000, 30_000_000, 0.1)
        display.show_upload(3, 3, 30_000_000, 30_000_000, 12.0)
        display.submitted()
        display.show_event(changed("InProgress"))
        display.show_event(changed("Stopping"))
        display.show_event(changed("Stopped", ProcessingStartTime=STARTED, ProcessingEndTime=STARTED))
    assert plain.getvalue().splitlines() == [
        "processing job clean: eu-west-1",
        "clean: uploading 3 files, 30.0 MB",
        "clean: uploaded 3 files, 30.0 MB in 12 s",
        "clean: InProgress: starting",
        "clean: Stopping: stopping",
        "clean: Stopped after 0.0 s, price not known",
    ]


def test_the_engine_knows_when_outputs_are_uploaded(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The phase is that of the engine, and stays so after the end, which a display learns a moment later."""
    session = processing.LocalSession(tmp_path / "engine")
    (tmp_path / "write.py").write_text(
        "for number in range(2000):\n    open(f'/opt/ml/processing/output/{number}', 'w').write('x')\n"
    )
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    job = processor.run(tmp_path / "write.py", outputs=["/opt/ml/processing/output"], job_name="write", wait=False)
    phases = [session.known_phase("write")]
    while job.status == "InProgress":
        if (phase := session.known_phase("write")) != phases[-1]:
            phases.append(phase)
    assert phases == [None, "uploading"]
    assert session.known_phase("write") == "uploading"
    assert session.known_phase("absent") is None


def test_a_phase_never_goes_back() -> None:
    """Outputs may be uploaded before the first status and the first line arrive."""
    known: list[str | None] = ["uploading", None, None]
    plain = io.StringIO()
    with outputs(plain), RunDisplay(VirtualClock()) as display:
        display.announce(RunFacts("clean", "on this machine", 0.0))
        display.watch(lambda: None, lambda: known.pop(0) if known else None)
        display.show_event(changed("InProgress"))
        display.show_lines()
        display.show_event(changed("Stopping"))
    assert plain.getvalue().splitlines()[1:] == ["clean: InProgress: uploading", "clean: Stopping: stopping"]


def test_words() -> None:
    """Durations, amounts and sizes are short and exact enough."""
    assert [duration(each) for each in (-1, 0.64, 59.4, 59.6, 242, 7380)] == [
        *("0.0 s", "0.6 s", "59 s", "1 min 0 s", "4 min 2 s", "2 h 3 min")
    ]
    assert [stopwatch(each) for each in (-1, 9.9, 75, 3725)] == ["0:00", "0:09", "1:15", "1:02:05"]
    assert [money(each) for each in (0, 1e-9, 0.00123, 1234.5)] == [
        *("0.00 USD", "less than 0.0001 USD", "0.0012 USD", "1,234.50 USD")
    ]
    assert [size(each) for each in (1, 999, 1234, 5_600_000, 7.8e12)] == [
        *("1 bytes", "999 bytes", "1.2 kB", "5.6 MB", "7,800.0 GB")
    ]
    assert phase_of(None, has_lines=False) == "queued"


def test_a_notebook_gets_one_output_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is made once and updated in place; its text is escaped, and links can be followed."""
    shown: list[dict[str, str]] = []

    class Module:
        class display:  # noqa: N801 - as in IPython
            def __new__(cls, data: dict[str, str], **_: object) -> Any:
                shown.append(data)
                made = object.__new__(cls)
                made.update = lambda data, **_: shown.append(data)  # type: ignore[attr-defined]
                return made

    monkeypatch.setitem(sys.modules, "IPython.display", Module)
    state = ["queued <b>"]
    status = NotebookStatus(lambda: state[0])
    status.write([FACTS.title])
    state[0] = "running"
    status.update()
    status.update()
    status.stop()
    assert len(shown) == 3
    assert shown[0]["text/html"].count("<a href=") == 1
    assert "&lt;b&gt;" in shown[0]["text/html"]
    assert shown[1]["text/plain"].endswith("\nrunning")
    assert shown[2]["text/plain"] == FACTS.title
    assert not in_notebook()
