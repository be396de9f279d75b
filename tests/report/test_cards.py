"""Cards of jobs: well-formed for any job, safe, small, and made with few calls."""

from __future__ import annotations

import datetime as dt
import html.parser
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import (
    LocalSession,
    ProcessingJob,
    RemoteExecutor,
    RunPlan,
    ScriptProcessor,
    card,
    jobs,
    remote,
    submit_all,
    wait,
)
from processing.cli import main
from processing.job.endpoint_facts import read_endpoint_facts
from processing.local.stores.jobs import HostEnd, JobStore
from processing.local.stores.metrics import Metric, Sample
from processing.remote_function import RemotePool
from processing.report.endpoint_card import Chart, EndpointFacts, VariantUse, endpoint_card
from processing.report.grid import jobs_card, plan_card
from processing.report.job_card import HostUse, JobFacts, JobPhase, job_card
from processing.report.markup import document
from processing.testing import EndpointMaker, FaultInjector, TrainingJobMaker
from processing.testing.endpoints import stop_all

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS: Final = st.text() | st.sampled_from(
    ["<script>alert(1)</script>", "]]>", "--><b>", "\"'&amp;", "\x1b[2J\x00\x08", "\u202etxt.exe", "\ufffe", "</style>"]
)
NUMBERS: Final = st.floats(0, 1e9)
SERIES: Final = st.lists(st.tuples(st.floats(-1e6, 1e9), st.floats(-1e6, 1e9)), max_size=8)
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
    st.lists(st.builds(JobPhase, TEXTS | st.just("Training"), NUMBERS, NUMBERS), max_size=3),
    st.none() | TEXTS | TEXTS.map("https://{}".format),
)
CHARTS: Final = st.builds(Chart, TEXTS, SERIES, TEXTS, st.none() | NUMBERS)
ENDPOINTS: Final = st.builds(
    EndpointFacts,
    TEXTS,
    STATUSES,
    st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=3),
    st.lists(st.builds(VariantUse, TEXTS, TEXTS, st.lists(CHARTS, max_size=3)), max_size=3),
    NUMBERS,
    st.none() | TEXTS,
    st.lists(TEXTS, max_size=3),
    st.none() | TEXTS | TEXTS.map("https://{}".format),
    st.none() | TEXTS | TEXTS.map("https://{}".format),
)
TAGS: Final = {
    *("div", "style", "h2", "b", "dl", "dt", "dd", "p", "a", "ul", "li", "pre", "span", "i"),
    *("svg", "title", "rect", "polygon", "polyline"),
}
ATTRIBUTES: Final = {
    *("class", "title", "role", "aria-label", "href", "rel", "xmlns", "viewBox", "preserveAspectRatio"),
    *("x", "y", "width", "height", "points"),
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


@given(ENDPOINTS)
def test_any_endpoint_gives_a_well_formed_card(facts: EndpointFacts) -> None:
    """The same holds for endpoints, with any metrics and units."""
    check(endpoint_card(facts))


@given(st.lists(st.tuples(TEXTS, STATUSES), max_size=5), TEXTS)
def test_any_jobs_and_plan_give_a_well_formed_card(cells: list[tuple[str, str]], text: str) -> None:
    """The cards of many jobs and of a plan are safe, too."""
    check(jobs_card(text, cells, unit=text, note=text))
    check(plan_card(text, text, [text], [text]))


def test_a_grid_of_many_jobs_is_small() -> None:
    """A grid of 10,000 jobs is smaller than 2 MB."""
    cells = [(f"a-job-with-a-name-of-forty-characters-{number:05}", "Completed") for number in range(10_000)]
    assert len(jobs_card("fleet", cells).encode()) < 2_000_000


def test_a_card_has_limits() -> None:
    """A grid has 10,000 cells, and a line 2,000 characters; the rest is counted."""
    text = jobs_card("fleet", [("a", "Completed")] * 12_345)
    assert text.count("<i ") == 10_000
    assert "and 2,345 more" in text
    assert "12,345 Completed" in text
    check(text)
    text = job_card(JobFacts("job", "Failed", tail=["<" * 1_000_000]))
    assert len(text) < 20_000
    assert "and 998,000 more characters" in text


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
    assert "ending, estimated" in card
    assert job._repr_html_() == card
    assert len(faults.calls) == 3
    good = started(session, "good.py", "good")
    faults.calls.clear()
    card = good.card()
    check(card)
    assert "ending, estimated" in card
    assert sorted(faults.calls) == ["DescribeLogStreams", "DescribeProcessingJob", "GetMetricData"]


def test_a_card_follows_what_a_wait_has_observed(session: LocalSession, faults: FaultInjector) -> None:
    """A card of a running job is made again once this process has observed the job's end, and only then."""
    Path("waits.py").write_text("import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n")
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session, base_job_name="card"
    )
    job = processor.run("waits.py", wait=False, quiet=True)
    running = job._repr_html_()
    assert ">InProgress<" in running
    faults.calls.clear()
    assert job._repr_html_() == running
    assert faults.calls == []
    job.stop()
    job.exception()
    assert ">Stopped<" in job._repr_html_()


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


def test_the_card_of_a_listing(session: LocalSession, faults: FaultInjector) -> None:
    """It lists at most 300 jobs in three calls, none when shown again, and the iteration still yields every job."""
    store = JobStore(session.home)
    for number in range(350):
        name = f"job-{number:03}"
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
        request = {"ProcessingJobName": name, "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1}}}
        job = store.create(request, arn=arn, folder=name, plan={}, hosts=1, tags={"team": "a"}, now=1.7e9 + number)
        store.record_host_end(job.id, 1, HostEnd("completed"), 1.7e9 + number + 1)
    searches: list[tuple[dict[str, Any], int]] = [({}, 300), ({"tags": {"team": "a"}}, 0)]
    for conditions, seen in searches:
        found = jobs(session=session, **conditions)
        faults.calls.clear()
        card = found._repr_html_()
        check(card)
        assert len(faults.calls) == 3
        assert f"<div>{seen} jobs" in card
        assert "There may be more jobs" in card
        assert found._repr_html_() == card
        assert len(faults.calls) == 3
        assert [job.job_name for job in found] == [f"job-{number:03}" for number in range(350)]
        assert 'aria-label="350 Completed"' in found._repr_html_()
        assert "There may be more jobs" not in found._repr_html_()


def test_the_card_of_a_wait(session: LocalSession) -> None:
    """The result of a wait has a cell for each job."""
    done = wait([started(session, "good.py", "good"), started(session, "bad.py", "bad")])
    check(done._repr_html_())
    assert 'aria-label="1 Failed, 1 Completed"' in done._repr_html_()


def test_cards_of_training_jobs_and_endpoints(
    session: LocalSession, faults: FaultInjector, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have AWS's phases or the variants, take three calls at most, and go into a report by name or by ARN."""
    engine = LocalSession(session.home, transport=faults.wrap, programs={"*": "answering_program"}, tick=0.01)
    trained = TrainingJobMaker(engine)("trained", channels={"train": {"a": b"1"}})
    TrainingJobMaker(engine)("running", wait=False)
    check(card("training-job/running", session=engine).html)
    failed = TrainingJobMaker(engine)("failed", environment={"PYTHONHOME": "/nowhere"})  # its Python cannot start
    assert failed["TrainingJobStatus"] == "Failed"
    EndpointMaker(engine)("served")
    try:
        engine.client("sagemaker-runtime").invoke_endpoint(EndpointName="served", Body=b"hello")
        for name, words in (
            ("training-job/trained", ["Downloading", "Training", "Uploading", "artifacts"]),
            (trained["TrainingJobArn"], ["Training"]),
            ("training-job/failed", ["AlgorithmError", "exit code"]),
            ("endpoint/served", ["InService", "weight 1, 1 instance"]),
        ):
            faults.calls.clear()
            found = card(name, session=engine)
            check(found.html)
            assert found._repr_html_() == found.html
            assert len(faults.calls) <= 3
            assert all(word in found.html for word in words), name
        assert main(["report", "training-job/trained", "endpoint/served", "-o", "r.html", "--local"]) == 0
        assert Path("r.html").read_text(encoding="utf-8").count('class="sm-card"') == 2
    finally:
        stop_all(engine)
    capsys.readouterr()
    for name, message in (
        ("endpoint/absent", "no endpoint 'absent' in the embedded engine"),
        ("training-job/absent", "no training job 'absent' in the embedded engine"),
        ("trainingjob/x", "'trainingjob' has no card; did you mean 'training-job'?"),
        ("endpoint/<b>", "'<b>' cannot be the name of an endpoint"),
        ("arn:aws:sagemaker:eu-west-1:000000000000:endpoint/x", "the job is in eu-west-1"),
    ):
        assert main(["report", name, "-o", "x.html", "--local"]) == 2
        assert message in capsys.readouterr().err
    assert not Path("x.html").exists()
    faults.calls.clear()
    for file, message in (("absent/x.html", "there is no folder absent"), (str(session.home), "is a folder")):
        assert main(["report", "endpoint/served", "-o", file, "--local"]) == 2
        assert message in capsys.readouterr().err
    assert faults.calls == []


def test_the_metrics_of_an_endpoint(session: LocalSession) -> None:
    """An endpoint's card draws the metrics that AWS names by endpoint and variant, and the lines of a failure."""
    now = dt.datetime.now(dt.timezone.utc).timestamp()
    dimensions = {"EndpointName": "busy", "VariantName": "all"}
    session.engine.metrics.put(
        (Metric.of(namespace, name, dimensions), "None", [Sample.of(now - 60, value), Sample.of(now - 1, value)])
        for namespace, name, value in (
            ("AWS/SageMaker", "Invocations", 7.0),
            ("AWS/SageMaker", "ModelLatency", 5000.0),
            ("/aws/sagemaker/Endpoints", "CPUUtilization", 150.0),
            ("/aws/sagemaker/Endpoints", "MemoryUtilization", 30.0),
        )
    )
    moment = int((now - 1) * 1000)
    session.engine.logs.append("/aws/sagemaker/Endpoints/busy", "all/i-1", [(moment, "out of <memory>")])
    described = {
        "EndpointStatus": "Failed",
        "FailureReason": "it <died>",
        "ProductionVariants": [{"VariantName": "all", "CurrentWeight": 0.5, "CurrentInstanceCount": 2}],
    }
    facts = read_endpoint_facts(session, "busy", described)
    assert [chart.name for chart in facts.variants[0].charts] == ["invocations", "latency", "CPU", "memory"]
    assert max(value for _, value in facts.variants[0].charts[1].points) == 5.0
    assert facts.tail == ["out of <memory>"]
    shown = endpoint_card(facts)
    check(shown)
    assert "weight 0.5, 2 instances" in shown


def test_cards_of_remote_calls(session: LocalSession) -> None:
    """A call and a pool have the card of their job, a map a cell for each call."""

    @remote(instance_type="local", sagemaker_session=session)
    def invert(value: int) -> float:
        return 1 / value

    with RemoteExecutor(instance_type="local", sagemaker_session=session) as executor:
        future = executor.submit(pow, 2, 3)
        future.exception()
    card = future._repr_html_()
    assert card is not None
    check(card)
    with RemotePool(instance_type="local", sagemaker_session=session) as pool:
        assert pool._repr_html_() is None
        assert pool.submit(pow, 2, 3).result() == 8
        card = pool._repr_html_()
        assert card is not None
        check(card)
    calls = invert.submit_map([1, 0])
    calls[1].exception()
    assert calls[0].result() == 1
    check(calls._repr_html_())
    assert 'aria-label="1 Completed, 1 Failed"' in calls._repr_html_()


def test_the_command(session: LocalSession, capsys: pytest.CaptureFixture[str]) -> None:
    """`processing report` writes one file with the card of each job."""
    for name in ("one", "two"):
        started(session, "good.py", name)
    assert main(["report", "one", "two", "-o", "jobs.html", "--local"]) == 0
    assert capsys.readouterr().out == "jobs.html\n"
    text = Path("jobs.html").read_text(encoding="utf-8")
    assert text.count('class="sm-card"') == 2
    assert "<title>2 cards</title>" in text
    assert json.dumps("one") not in text
    assert main(["report", "absent", "-o", "x.html", "--local"]) == 2
    assert not Path("x.html").exists()
