"""Cards of jobs: well-formed for any job, safe, small, and made with few calls."""

from __future__ import annotations

import html.parser
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import LocalSession, ProcessingJob, RemoteExecutor, RunPlan, ScriptProcessor, remote, submit_all
from processing.cli import main
from processing.report.grid import jobs_card, plan_card
from processing.report.job_card import HostUse, JobFacts, job_card
from processing.report.markup import document
from processing.testing.faults import FaultInjector

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS: Final = st.text() | st.sampled_from(
    ["<script>alert(1)</script>", "]]>", "--><b>", "\"'&amp;", "\x1b[2J\x00\x08", "\u202etxt.exe", "\ufffe", "</style>"]
)
NUMBERS: Final = st.floats(0, 1e9)
SERIES: Final = st.lists(st.floats(-1e6, 1e9), max_size=8)
STATUSES: Final = st.sampled_from(["Completed", "Failed", "Stopped", "InProgress", "Stopping"]) | TEXTS
HOSTS: Final = st.builds(HostUse, TEXTS, SERIES, SERIES, st.none() | st.tuples(NUMBERS, NUMBERS))
FACTS: Final = st.builds(
    JobFacts,
    TEXTS,
    STATUSES,
    st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=3),
    st.none() | NUMBERS,
    NUMBERS,
    st.lists(HOSTS, max_size=3),
    st.none() | TEXTS,
    st.lists(TEXTS, max_size=3),
    st.none() | TEXTS | TEXTS.map("https://{}".format),
)
TAGS: Final = {
    *("div", "style", "h2", "b", "dl", "dt", "dd", "p", "a", "ul", "li", "pre", "span", "i"),
    *("svg", "title", "rect", "polygon"),
}
ATTRIBUTES: Final = {
    *("class", "title", "role", "aria-label", "href", "rel", "xmlns", "viewBox", "preserveAspectRatio"),
    *("x", "y", "width", "height", "opacity", "points"),
}


def check(card: str) -> None:
    """A card is well-formed XML with the elements and attributes of cards alone, also for a reader of HTML."""
    root = ET.fromstring(card)
    for element in root.iter():
        assert element.tag.rpartition("}")[2] in TAGS
        assert set(element.attrib) <= ATTRIBUTES
        assert all(value.startswith("https://") for name, value in element.attrib.items() if name == "href")
    seen: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: Sequence[Any]) -> None:
            seen.append(tag)
            assert not any(name.startswith("on") for name, _ in attrs)

    Reader().feed(card)
    assert set(seen) <= TAGS
    assert not any(character in card for character in "\x00\x1b\u202e\ufffe")


@given(FACTS)
def test_any_job_gives_a_well_formed_card(facts: JobFacts) -> None:
    """Names, lines and messages of any characters are text, and every number is a place in the drawing."""
    check(job_card(facts))


@given(st.lists(st.tuples(TEXTS, STATUSES), max_size=5), TEXTS)
def test_any_jobs_and_plan_give_a_well_formed_card(jobs: list[tuple[str, str]], text: str) -> None:
    """The cards of many jobs and of a plan are safe, too."""
    check(jobs_card(text, jobs))
    check(plan_card(text, text, [text], [text]))


def test_a_grid_of_many_jobs_is_small() -> None:
    """A grid of 10,000 jobs is smaller than 2 MB."""
    jobs = [(f"a-job-with-a-name-of-forty-characters-{number:05}", "Completed") for number in range(10_000)]
    assert len(jobs_card("fleet", jobs).encode()) < 2_000_000


def test_a_document_loads_nothing() -> None:
    """The file has a policy against scripts and loading, and a size for small screens."""
    text = document("<title>", [job_card(JobFacts("job", "Completed"))])
    assert "<title>&lt;title&gt;</title>" in text
    assert "default-src 'none'" in text
    assert 'content="width=device-width' in text
    assert "http://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


@pytest.fixture
def faults() -> FaultInjector:
    """The recorder of the calls."""
    return FaultInjector()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: FaultInjector) -> LocalSession:
    """An engine in a folder with two scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    Path("good.py").write_text("print('hello')\n")
    Path("bad.py").write_text("import sys\nprint('<script>alert(1)</script>')\nsys.exit(3)\n")
    return LocalSession(home=tmp_path / "engine", transport=faults.wrap)


def started(session: LocalSession, script: str, name: str) -> ProcessingJob:
    """A job that has ended."""
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session, base_job_name="card"
    )
    job = processor.run(script, wait=False, quiet=True, job_name=name)
    job.exception()
    return job


def test_a_card_makes_few_calls(session: LocalSession, faults: FaultInjector) -> None:
    """A card takes at most three calls, none when it is shown again, and shows the lines of a failure as text."""
    job = started(session, "bad.py", "bad")
    faults.calls.clear()
    card = job._repr_html_()
    assert sorted(faults.calls) == ["DescribeProcessingJob", "FilterLogEvents", "GetMetricData"]
    check(card)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in card
    assert 'class="sm-bad">Failed<' in card
    assert job._repr_html_() == card
    assert len(faults.calls) == 3
    good = started(session, "good.py", "good")
    faults.calls.clear()
    card = good.card()
    check(card)
    assert "are estimates" in card
    assert sorted(faults.calls) == ["DescribeLogStreams", "DescribeProcessingJob", "GetMetricData"]


def test_a_card_without_permissions(session: LocalSession, faults: FaultInjector) -> None:
    """The card leaves out what AWS refuses."""
    job = started(session, "bad.py", "bad")
    faults.on("GetMetricData", "denied", times=9).on("FilterLogEvents", "denied", times=9)
    card = job.card()
    check(card)
    assert "alert(1)" not in card
    assert "algo-1" in card


def test_cards_of_a_fleet_and_a_plan(session: LocalSession, faults: FaultInjector) -> None:
    """Both are shown without a call."""
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session, base_job_name="card"
    )
    fleet = submit_all(processor, [{"code": "good.py"}, {"code": "good.py"}], name="fleet")
    fleet.wait()
    faults.calls.clear()
    check(fleet._repr_html_())
    assert "2 Completed" in fleet._repr_html_()
    plan = processor.plan("good.py")
    check(plan._repr_html_())
    assert "Plan of card-" in plan._repr_html_()
    assert 'sm-bad">Cannot run<' in RunPlan(problems=("role: missing",))._repr_html_()
    check(RunPlan()._repr_html_())
    assert faults.calls == []


def test_cards_of_remote_calls(session: LocalSession) -> None:
    """A call has the card of its job, a map a cell for each call."""

    @remote(instance_type="local", sagemaker_session=session)
    def invert(value: int) -> float:
        return 1 / value

    with RemoteExecutor(instance_type="local", sagemaker_session=session) as executor:
        future = executor.submit(pow, 2, 3)
        future.exception()
    card = future._repr_html_()
    assert card is not None
    check(card)
    calls = invert.submit_map([1, 0])
    calls[1].exception()
    assert calls[0].result() == 1
    check(calls._repr_html_())
    assert "1 Completed, 1 Failed" in calls._repr_html_()


def test_the_command(session: LocalSession, capsys: pytest.CaptureFixture[str]) -> None:
    """`processing report` writes one file with the card of each job."""
    for name in ("one", "two"):
        started(session, "good.py", name)
    assert main(["report", "one", "two", "-o", "jobs.html", "--local"]) == 0
    assert capsys.readouterr().out == "jobs.html\n"
    text = Path("jobs.html").read_text(encoding="utf-8")
    assert text.count('class="sm-card"') == 2
    assert "<title>2 processing jobs</title>" in text
    assert json.dumps("one") not in text
    assert main(["report", "absent", "-o", "x.html", "--local"]) == 2
    assert not Path("x.html").exists()
