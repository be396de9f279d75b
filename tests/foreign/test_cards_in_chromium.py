"""Cards in a browser: hostile text does nothing, nothing is loaded, and they look as the kept pictures do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from chromium import TOLERANCE
from processing.report.endpoint_card import Chart, EndpointFacts, VariantUse, endpoint_card
from processing.report.grid import jobs_card, plan_card
from processing.report.job_card import HostUse, JobFacts, JobPhase, job_card
from processing.report.markup import document

if TYPE_CHECKING:
    from chromium import Chromium

PICTURES: Final = Path(__file__).with_name("pictures")
HOSTILE: Final = (
    "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>"
    "]]>--></style></pre>\x1b[2J\u202etxt" + "x" * 200
)
STATUSES: Final = ("Completed", "Failed", "InProgress")
LAYOUTS: Final = {
    "light": {"scheme": "light", "width": 800},
    "dark-390": {"scheme": "dark", "width": 390},
    "print": {"scheme": "dark", "width": 800, "media": "print"},
}
_WIDTH: Final = "document.documentElement.scrollWidth"
_DRAWN: Final = "[...document.querySelectorAll('svg')].filter(each => each.getBoundingClientRect().width > 100).length"
_RUNS: Final = "document.querySelectorAll('main script, main img, main iframe').length"


def hostile_page() -> str:
    """A file with every kind of card, made of hostile text."""
    host = HostUse(HOSTILE, [(20.0, 10.0), (40.0, 250.0), (90.0, 30.0)], [(40.0, 20.0)], (30.0, 90.0))
    details = [("image", HOSTILE), ("price", "1.20 USD")]
    statuses = ("Completed", "Failed", "Stopped", "InProgress", HOSTILE)
    jobs = [JobFacts(HOSTILE, each, details, 10.0, 100.0, [host], HOSTILE, [HOSTILE] * 3) for each in statuses]
    variant = VariantUse(HOSTILE, HOSTILE, [Chart(HOSTILE, [(1.0, 1.0), (2.0, 5.0)], HOSTILE)])
    endpoint = EndpointFacts(HOSTILE, HOSTILE, details, [variant], 10.0, HOSTILE, [HOSTILE] * 3)
    grid = jobs_card(HOSTILE, [(f"{HOSTILE}{number}", statuses[number % 5]) for number in range(100)], note=HOSTILE)
    plan = plan_card(HOSTILE, HOSTILE, [HOSTILE], [HOSTILE])
    return document(HOSTILE, [*map(job_card, jobs), endpoint_card(endpoint), grid, plan])


def usual_page(hosts: int = 2) -> str:
    """A file with every kind of card, as users see them."""
    seconds = range(200, 3601, 60)
    uses = [
        HostUse(
            f"algo-{number}",
            [(second, 60 * number + 60 * math.sin(second / 500 + number) ** 2) for second in seconds],
            [(second, 20 + second / 80 + 3 * number) for second in seconds],
            (250 + 20 * number, 3400.0 + 10 * number),
        )
        for number in range(1, hosts + 1)
    ]
    details = [
        ("instances", f"{hosts} x ml.m5.xlarge"),
        ("image", "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"),
        ("created", "2026-11-30 10:00:00+00:00"),
        ("duration", "56 min 40 s"),
        ("price", "0.4349 USD: 3,400 s, of 2 x ml.m5.xlarge x 24 h at 0.2303 USD"),
    ]
    console = "https://us-east-1.console.aws.amazon.com/sagemaker/home"
    reason = "AlgorithmError: See job logs for more information, exit code: 1"
    tail = ["Traceback (most recent call last):", '  File "clean.py", line 3, in <module>', "ValueError: no values"]
    phases = [JobPhase("Starting", 0, 20), JobPhase("Downloading", 20, 40), JobPhase("Training", 40, 90)]
    cards = [
        job_card(JobFacts("clean-1", "Completed", details, 200, 3600, uses, console_url=console, log_url=console)),
        job_card(JobFacts("clean-2", "Failed", details[:1], 200, 3600, uses[:1], reason, tail)),
        job_card(JobFacts("clean-3", "InProgress", details[:1], None, 30, [HostUse("algo-1")])),
        job_card(
            JobFacts(
                "diabetes", "Completed", [("validation:rmse", "53.2")], 20, 100, [HostUse("algo-1", [(50.0, 95.0)])],
                phases=[*phases, JobPhase("Uploading", 90, 100)],
            )
        ),
        endpoint_card(
            EndpointFacts(
                "diabetes", "InService", [("configuration", "diabetes")],
                [VariantUse("all", "weight 1, 1 instance", [Chart("invocations", [(0, 1), (400, 20), (900, 4)])])],
                span=1000,
            )
        ),
        jobs_card("nightly", [(f"n-{each}", STATUSES[each % 7 % 3]) for each in range(150)]),
        plan_card("Plan of clean-4", "job    clean-4\nprice  at most 5.53 USD", ["role: missing"], ["a warning"]),
    ]  # fmt: skip
    return document("7 cards", cards)


def show(chromium: Chromium, folder: Path, text: str, **layout: object) -> None:
    """Open a file in the browser."""
    path = folder / "cards.html"
    path.write_text(text, encoding="utf-8")
    chromium("open", url=path.as_uri(), **layout)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_text_does_nothing(chromium: Chromium, tmp_path: Path, scheme: str) -> None:
    """No script runs, no request is made, the policy has nothing to refuse, and the page is as wide as a telephone."""
    show(chromium, tmp_path, hostile_page(), scheme=scheme, width=390)
    seen = chromium("seen")
    assert len(seen["requests"]) == 1  # the file itself
    assert (seen["dialogs"], seen["errors"], chromium.asked) == ([], [], [])
    assert chromium("evaluate", code=_RUNS) == 0
    assert chromium("evaluate", code=_WIDTH) == 390
    assert chromium("evaluate", code=_DRAWN) == 16


def test_the_recorder_of_requests(chromium: Chromium, tmp_path: Path) -> None:
    """A page that does load something is noticed."""
    show(chromium, tmp_path, '<main><img src="http://evil.example/x"></main>')
    assert "http://evil.example/x" in chromium("seen")["requests"]
    assert chromium.asked.pop() == "GET http://evil.example/x HTTP/1.1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_the_cards(chromium: Chromium, tmp_path: Path, scheme: str) -> None:
    """axe-core finds no fault, in usual text and in hostile one."""
    for text in (usual_page(), hostile_page()):
        show(chromium, tmp_path, text, scheme=scheme, width=390, bypass=True)
        assert chromium("axe") == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cards_look_as_they_did(chromium: Chromium, tmp_path: Path, layout: str) -> None:
    """The drawn cards are those of the kept picture, in light and dark, on a telephone and in print."""
    show(chromium, tmp_path, usual_page(), **LAYOUTS[layout])
    assert chromium.compare_with(PICTURES / f"cards-{layout}.png") <= TOLERANCE


def test_a_difference_is_noticed(chromium: Chromium, tmp_path: Path) -> None:
    """Cards without their colours, with a host more, or in the other scheme are not those of the kept picture."""
    kept = PICTURES / "cards-light.png"
    show(chromium, tmp_path, usual_page(hosts=3))
    assert chromium.compare_with(kept, keep=False) > TOLERANCE
    show(chromium, tmp_path, usual_page().replace("sm-good", "sm-bad"), bypass=True)
    assert chromium.compare_with(kept, keep=False) > TOLERANCE
    show(chromium, tmp_path, usual_page(), scheme="dark")
    assert chromium.compare_with(kept, keep=False) > TOLERANCE
