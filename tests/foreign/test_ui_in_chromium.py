"""`processing local ui` in a browser: live without a reload, closed to everything else, and readable by everybody."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from chromium import TOLERANCE
from processing import LocalSession, ScriptProcessor
from processing.cli.ui.server import UiServer
from processing.local.stores.job_kinds import PROCESSING, TRAINING
from processing.local.stores.jobs import HostEnd, JobStore
from processing.testing import EndpointMaker
from processing.testing.endpoints import stop_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chromium import Chromium

PICTURES: Final = Path(__file__).with_name("pictures")
HOSTILE: Final = (
    "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>]]>--></style></pre>\x1b[2J\u202etxt"
)
WAITS: Final = """\
import os, time
print("first", flush=True)
while not os.path.exists({go!r}):
    time.sleep(0.01)
print("last")
"""
START: Final = 1_790_000_000.0
LAYOUTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "overview-light": ("", {"scheme": "light", "width": 900}),
    "overview-dark-390": ("", {"scheme": "dark", "width": 390}),
    "list-dark": ("processing-job", {"scheme": "dark", "width": 900}),
    "job-light": ("processing-job/clean-3", {"scheme": "light", "width": 900}),
    "job-dark-390": ("processing-job/clean-3", {"scheme": "dark", "width": 390}),
}


@pytest.fixture
def session(tmp_path: Path) -> LocalSession:
    """An engine with a program for every image."""
    return LocalSession(tmp_path / "engine", programs={"*": "answering_program"}, tick=0.01, grace=1.0)


@pytest.fixture
def ui(session: LocalSession) -> Iterator[UiServer]:
    """The pages of the engine."""
    with UiServer(session) as server:
        yield server


@pytest.fixture
def _utc() -> Iterator[None]:
    """The time zone of the kept pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def add_job(session: LocalSession, number: int, reason: str | None, lines: list[str]) -> None:
    """Put a job of a fixed time into the engine's stores, with its lines and metrics."""
    name = f"clean-{number}"
    cluster = {"InstanceCount": 2, "InstanceType": "local", "VolumeSizeInGB": 30}
    source = {"S3Uri": "s3://data/raw/", "LocalPath": "/opt/ml/processing/input", "S3DataType": "S3Prefix"}
    request = {
        "ProcessingJobName": name,
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": ["python3", "clean.py"]},
        "ProcessingInputs": [{"InputName": "raw", "S3Input": {**source, "S3InputMode": "File"}}],
        "RoleArn": "arn:aws:iam::000000000000:role/r",
    }
    begin = START + 100 * number
    store = JobStore(session.home, PROCESSING)
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
    job = store.create(request, arn=arn, folder=name, plan={}, hosts=2, tags={"team": "\u05d0\u05d1"}, now=begin)
    for host in (1, 2):
        store.record_start(job.id, host, 1, None, begin + 5)
        end = HostEnd("completed") if reason is None else HostEnd("failed", reason=reason)
        store.record_host_end(job.id, host, end, begin + 60 + host)
        stream = f"{name}/algo-{host}-1"
        times = range(len(lines))
        events = [(int((begin + 10 + 40 * each / len(lines)) * 1000) + host, lines[each]) for each in times]
        session.engine.logs.append(PROCESSING.log_group, stream, events)
        samples = [
            (begin + each, {"CPUUtilization": 20.0 * host + each, "MemoryUtilization": 30.0}) for each in range(5, 60)
        ]
        session.engine.metrics.append(f"{name}/algo-{host}", samples)


def add_jobs(session: LocalSession) -> None:
    """Put jobs of fixed times into the engine's stores."""
    for number in range(1, 13):
        reason = "AlgorithmError: exit code: 1" if number % 3 == 0 else None
        lines = [f"line {each}" for each in range(8)] if reason is None else ["Traceback", "ValueError: no values"]
        add_job(session, number, reason, lines)
    training = JobStore(session.home, TRAINING)
    arn = "arn:aws:sagemaker:us-east-1:000000000000:training-job/diabetes"
    request = {"TrainingJobName": "diabetes", "ResourceConfig": {"InstanceCount": 1}}
    job = training.create(request, arn=arn, folder="diabetes", plan={}, hosts=1, tags={}, now=START)
    training.record_host_end(job.id, 1, HostEnd("completed"), START + 90)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("_utc")
def test_pages_look_as_they_did(chromium: Chromium, session: LocalSession, ui: UiServer, layout: str) -> None:
    """The drawn pages are those of the kept picture, and axe-core finds no fault in them."""
    add_jobs(session)
    path, details = LAYOUTS[layout]
    chromium("open", url=ui.url + path, bypass=True, **details)
    assert chromium("evaluate", code="document.documentElement.scrollWidth") == details["width"]
    assert chromium("axe") == []
    chromium("open", url=ui.url + path, **details)
    folder = "const note = document.querySelector('main > .sm-note'); if (note) note.textContent = 'in its folder'"
    chromium("evaluate", code=folder)
    assert chromium.compare_with(PICTURES / f"ui-{layout}.png") <= TOLERANCE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_in_the_pages_of_endpoints(
    chromium: Chromium, session: LocalSession, ui: UiServer, scheme: str
) -> None:
    """The list of endpoints and the page of one fit a narrow window and can be read by everybody."""
    try:
        EndpointMaker(session)("served")
        for path, heading in {"endpoint": "Endpoints", "endpoint/served": "served"}.items():
            chromium("open", url=ui.url + path, bypass=True, scheme=scheme, width=390)
            assert heading in chromium("evaluate", code="document.querySelector('main').textContent")
            assert chromium("evaluate", code="document.documentElement.scrollWidth") == 390
            assert chromium("axe") == []
    finally:
        stop_all(session)


def test_hostile_text_does_nothing(chromium: Chromium, session: LocalSession, ui: UiServer) -> None:
    """On no page a script of a job runs, a request leaves, or the policy has anything to refuse."""
    add_job(session, 1, HOSTILE, [HOSTILE] * 3)
    for path in (
        "",
        "processing-job",
        "processing-job/clean-1",
        "processing-job?name=%3Cscript%3Ealert(1)%3C/script%3E",
    ):
        chromium("open", url=ui.url + path, width=390)
        chromium("wait", code="window.performance.getEntriesByType('resource').length > 0")  # it was live once
        seen = chromium("seen")
        assert (seen["dialogs"], seen["errors"], chromium.asked) == ([], [], [])
        assert all(each.startswith(ui.url) for each in seen["requests"])
        assert chromium("evaluate", code="document.querySelectorAll('main script, img').length") == 0
        assert chromium("evaluate", code="document.documentElement.scrollWidth") == 390


def test_the_policy_refuses_a_script_in_the_page(chromium: Chromium, session: LocalSession, ui: UiServer) -> None:
    """If escaping failed, neither a script nor a handler nor a picture from elsewhere would do anything."""
    add_job(session, 1, None, ["line"])
    chromium("open", url=ui.url)
    attempts = """() => [
        () => { const made = document.createElement("script"); made.append("alert(1)"); document.body.append(made); },
        () => document.body.setAttribute("onclick", "alert(2)"),
        () => { document.body.innerHTML += "<img src=x onerror=alert(3)>"; },
        () => { const made = new Image(); made.src = "http://evil.example/x"; document.body.append(made); },
        () => { const made = new DocumentFragment(); made.append(document.createElement("iframe"));
            made.firstChild.src = "http://evil.example/"; document.body.append(made); },
        () => setTimeout("alert(4)"),
        () => navigator.sendBeacon("http://evil.example/x"),
    ].map(attempt => { try { attempt(); return "no error"; } catch { return "error"; } })"""
    results = chromium("evaluate", code=f"({attempts})()")
    assert results[1:3] == ["error", "error"]
    chromium("click", selector="h1")
    seen = chromium("seen")
    assert seen["dialogs"] == []
    assert any("Content Security Policy" in each for each in seen["errors"])
    assert chromium.asked == []


def test_a_page_is_live(chromium: Chromium, session: LocalSession, ui: UiServer, tmp_path: Path) -> None:
    """The open page shows a job's end and its lines without being loaded again, and says when it is not live."""
    go = tmp_path / "go"
    (tmp_path / "waits.py").write_text(WAITS.format(go=str(go)))
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    processor.run(str(tmp_path / "waits.py"), job_name="waits", wait=False, quiet=True)
    chromium("open", url=ui.url)
    chromium("click", selector="a[href$='/processing-job/waits']")
    chromium("wait", code="document.querySelector('h2 b')?.textContent === 'InProgress'")
    chromium("wait", code="document.querySelector('main').textContent.includes('first')")
    chromium("evaluate", code="window.same = true")
    go.touch()
    chromium("wait", code="document.querySelector('h2 b').textContent === 'Completed'")
    chromium("wait", code="document.querySelector('main').textContent.includes('last')")
    assert chromium("evaluate", code="window.same") is True
    assert chromium("evaluate", code="document.getElementById('live').textContent") == "live"
    assert chromium("seen")["errors"] == []
    ui.stop()
    chromium("wait", code="document.getElementById('live').textContent.startsWith('not live')")
    assert "Completed" in chromium("evaluate", code="document.querySelector('main').textContent")
