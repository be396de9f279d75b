"""`processing local ui`: the pages, who gets them, and the command."""

from __future__ import annotations

import contextlib
import datetime as dt
import html
import http.client
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import LocalSession, ScriptProcessor
from processing.cli.ui.pages import Pages
from processing.cli.ui.resources import KINDS, Row
from processing.cli.ui.server import UiServer
from processing.local.stores.jobs import HostEnd, JobStore
from processing.testing import EndpointMaker, FaultInjector, TrainingJobMaker
from processing.testing.endpoints import stop_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND: Final = (sys.executable, "-m", "processing", "local", "ui")
HOSTILE: Final = "<script>alert(1)</script> ]]> --> \x1b[2J\u202etxt \"'&amp;"
TEXTS: Final = st.text() | st.just(HOSTILE)
MOMENTS: Final = st.integers(0, 4_000_000_000).map(lambda second: dt.datetime.fromtimestamp(second, dt.timezone.utc))


@pytest.fixture
def faults() -> FaultInjector:
    """The recorder of the calls."""
    return FaultInjector()


@pytest.fixture
def session(tmp_path: Path, faults: FaultInjector) -> Iterator[LocalSession]:
    """An engine with a program for every image."""
    made = LocalSession(
        tmp_path / "engine", programs={"*": "answering_program"}, tick=0.01, grace=1.0, transport=faults.wrap
    )
    yield made
    stop_all(made)


@pytest.fixture
def ui(session: LocalSession) -> Iterator[UiServer]:
    """The pages of the engine."""
    with UiServer(session) as server:
        yield server


def get(
    ui: UiServer, path: str = "", *, method: str = "GET", root: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Return the status, the headers by name in lower case, and the text of an answer."""
    url = urlsplit(ui.url)
    with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=60)) as connection:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, (url.path if root is None else root) + path, headers=names)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()


def main_of(text: str) -> ET.Element:
    """Return the part of a page that changes, which is well-formed XML without anything that runs."""
    found = re.search(r"<main>.*</main>", text, re.DOTALL)
    assert found is not None
    root = ET.fromstring(found[0])
    for element in root.iter():
        assert element.tag not in {"script", "img", "iframe", "object", "embed", "form"}
        assert not any(name.startswith("on") or name in {"src", "style"} for name in element.attrib)
    assert not any(character in found[0] for character in "\x1b\u202e")
    return root


def fill(session: LocalSession, count: int) -> None:
    """Put finished jobs into the engine's store."""
    store = JobStore(session.home)
    for number in range(count):
        name = f"job-{number:05}"
        request = {"ProcessingJobName": name, "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1}}}
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
        job = store.create(request, arn=arn, folder=name, plan={}, hosts=1, tags={}, now=1.7e9 + number)
        end = HostEnd("completed") if number % 10 else HostEnd("failed", reason=HOSTILE)
        store.record_host_end(job.id, 1, end, 1.7e9 + number + 1)


# The pages


def test_pages_of_every_kind_only_read(
    session: LocalSession, ui: UiServer, faults: FaultInjector, tmp_path: Path
) -> None:
    """Jobs, training jobs and endpoints have a row and a page, and no page makes a call that changes anything."""
    (tmp_path / "bad.py").write_text(f"import sys\nprint({HOSTILE!r})\nsys.exit({HOSTILE!r})\n")
    processor = ScriptProcessor(
        command=["python3"],
        instance_type="local",
        instance_count=2,
        sagemaker_session=session,
        tags=[{"Key": "team", "Value": "data \u05d0\u05d1"}],
    )
    job = processor.run(str(tmp_path / "bad.py"), job_name="bad", wait=False, quiet=True, arguments=["--x", HOSTILE])
    job.exception()
    TrainingJobMaker(session)("trained", channels={"train": {"a": b"1"}}, hyperparameters={"depth": "3"})
    EndpointMaker(session)("served")
    faults.calls.clear()
    status, _, overview = get(ui)
    assert status == 200
    main_of(overview)
    for path, words in {
        "processing-job/bad": ["Failed", "data \u05d0\u05d1", "algo-2", HOSTILE[:25], "command"],
        "training-job/trained": ["Completed", "Downloading", "hyperparameter depth", "channel train"],
        "endpoint/served": ["InService", "weight 1, 1 instance", "serving"],
    }.items():
        assert f'/{path}">' in overview
        status, _, text = get(ui, path)
        assert status == 200
        shown = "".join(main_of(text).itertext())
        assert all(word in shown for word in words), path
        assert get(ui, path.partition("/")[0])[0] == 200
    assert get(ui, "transform-job")[0] == 200
    assert faults.calls
    assert all(re.match("(List|Describe|Get)[A-Z]|FilterLogEvents", each) for each in faults.calls)


def test_a_page_shows_the_state_of_now(session: LocalSession, ui: UiServer, tmp_path: Path) -> None:
    """The pages work while jobs run, and each request shows the present state."""
    go = tmp_path / "go"
    (tmp_path / "waits.py").write_text(
        f"import os, time\nprint('here', flush=True)\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n"
    )
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    job = processor.run(str(tmp_path / "waits.py"), job_name="waits", wait=False, quiet=True)
    assert ">InProgress<" in get(ui, "processing-job/waits")[2]
    assert ">InProgress<" in get(ui)[2]
    go.touch()
    job.wait(logs=False)
    text = get(ui, "processing-job/waits")[2]
    assert ">Completed<" in text
    assert "here" in text


def test_ten_thousand_jobs(session: LocalSession, ui: UiServer, faults: FaultInjector) -> None:
    """A page has a hundred jobs by one call, links to older ones, and lists by status and by name."""
    fill(session, 10_000)
    faults.calls.clear()
    status, _, text = get(ui, "processing-job")
    assert (status, faults.calls) == (200, ["ListProcessingJobs"])
    names = re.findall(r">(job-\d+)<", text)
    assert names == [f"job-{number:05}" for number in range(9999, 9899, -1)]
    older = re.search(r'href="([^"]*)">older', text)
    assert older is not None
    _, _, text = get(ui, html.unescape(older[1]), root="")
    assert re.findall(r">(job-\d+)<", text)[0] == "job-09899"
    assert ">newest</a>" in text
    _, _, text = get(ui, "processing-job?status=Failed&name=job-0001")
    assert re.findall(r">(job-\d+)<", text) == ["job-00010"]
    assert HOSTILE[:8] not in re.sub("<script>.*</script></body>", "", text, flags=re.DOTALL)
    main_of(text)
    assert len(get(ui)[2]) < 50_000


@given(st.lists(st.builds(Row, TEXTS, TEXTS, MOMENTS, st.none() | MOMENTS, TEXTS), max_size=3), TEXTS)
def test_any_rows_give_a_well_formed_table(rows: list[Row], title: str) -> None:
    """Names, statuses and reasons of any characters are text."""
    pages = Pages(LocalSession(), title, "/token/")
    for kind in KINDS.values():
        main_of(f"<main>{pages._table(kind, rows)}</main>")
    main_of(pages.not_found(title))


# Who gets them


def test_only_the_user_gets_a_page(ui: UiServer) -> None:
    """Another name of the server, another token, and other methods than GET and HEAD get no page."""
    port = urlsplit(ui.url).port
    assert get(ui, Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.evil.example", "127.0.0.1:1"):
        status, headers, text = get(ui, Host=host)
        assert (status, text) == (403, "This server has another name.\n")
        assert "access-control-allow-origin" not in headers
    token = urlsplit(ui.url).path
    for root in (
        "/",
        "/favicon.ico",
        token[:-2] + "/",
        token[:-1] + "x/",
        token.swapcase(),
        "//",
        "/%00/",
        "/%C3%A9/",
    ):
        status, _, text = get(ui, root=root)
        assert (status, text) == (403, "Open the address that processing local ui has printed: it has a token.\n")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        status, headers, _ = get(ui, method=method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_the_headers_of_a_page(ui: UiServer) -> None:
    """The policy has the hashes of the page's own style and script alone, and a page is neither stored nor framed."""
    _, headers, text = get(ui)
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; ") if " " in each)
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", policy["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/=]{44}' 'sha256-[\w+/=]{44}'", policy["style-src"])
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert headers["x-content-type-options"] == "nosniff"
    assert "http://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    status, again, text = get(ui, If_None_Match=headers["etag"])
    assert (status, again["etag"], text) == (304, headers["etag"], "")
    status, again, text = get(ui, method="HEAD")
    assert (status, again["content-length"], text) == (200, headers["content-length"], "")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("processing-job/absent", 404, "no processing job 'absent' in the embedded engine"),
        ("endpoint/%3Cscript%3E", 400, ""),
        ("nothing", 404, "There is no such page."),
        ("processing-job/a/b", 404, "There is no such page."),
        ("processing-job?status=%3Cscript%3E", 404, "Processing jobs have no status '<script>'."),
        ("processing-job?next=x", 400, ""),
        ("processing-job?name=%3Cscript%3Ealert(1)%3C/script%3E", 200, "No processing jobs."),
        ("processing-job?" + "&".join(f"a{number}=1" for number in range(11)), 404, "too many fields"),
    ],
)
def test_a_page_that_does_not_exist(ui: UiServer, path: str, status: int, message: str) -> None:
    """It has a reason, as text."""
    found, _, text = get(ui, path)
    assert found == status
    assert message in "".join(main_of(text).itertext())


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """The page has the reason, and the server goes on."""
    home = tmp_path / "engine"
    with UiServer(LocalSession(home)) as ui:
        assert get(ui)[0] == 200
        shutil.rmtree(home)
        home.write_text("a file")
        status, _, text = get(ui, "processing-job")
        assert status == 503
        assert str(home) in "".join(main_of(text).itertext())
        home.unlink()
        assert get(ui, root="/")[0] == 403


def test_a_closed_browser(ui: UiServer) -> None:
    """A browser that resets the connection, or closes it within a request, leaves the server as it was."""
    url = urlsplit(ui.url)
    assert url.hostname is not None
    assert url.port is not None
    for data in (b"GET " + url.path.encode(), f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()):
        with socket.create_connection((url.hostname, url.port)) as browser:
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            browser.sendall(data)
    assert get(ui)[0] == 200


# The command


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it has printed."""
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def text_at(url: str) -> str:
    """Return the page at an address."""
    split = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(split.netloc, timeout=60)) as connection:
        connection.request("GET", split.path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """It serves an engine without a folder yet, and ends with exit code 0 and no further word."""
    with running("--home", str(tmp_path / "new")) as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
        assert "No processing jobs." in text_at(url)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "")
        assert err == "Open this address in a browser of this machine. Ctrl-C ends it.\n"


def test_two_at_once_and_a_taken_port(tmp_path: Path) -> None:
    """Each has its own port and token. A port that is taken is an error that names the option."""
    home = str(tmp_path / "engine")
    with running("--home", home) as (_, one), running("--home", home) as (_, two):
        assert text_at(one)
        assert text_at(two)
        mixed = two.replace(urlsplit(two).path, urlsplit(one).path)
        with pytest.raises(AssertionError):
            text_at(mixed)
        port = str(urlsplit(one).port)
        done = subprocess.run(
            [*COMMAND, "--home", home, "--port", port], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--port: cannot serve on 127.0.0.1:{port}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"), [(["--home", "/dev/null/x"], "/dev/null/x"), (["--port", "70000"], "--port")]
)
def test_what_cannot_be_served(options: list[Any], message: str) -> None:
    """The error has the reason, with exit code 2."""
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
