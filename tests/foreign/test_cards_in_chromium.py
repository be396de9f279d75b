"""The cards of jobs in a browser: hostile text does nothing, nothing is loaded, and everybody can read them."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from processing.report.grid import jobs_card, plan_card
from processing.report.job_card import HostUse, JobFacts, job_card
from processing.report.markup import document

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>]]>--></style></pre>\x1b[2J\u202etxt" + "x" * 200
OPEN = """
const { chromium } = require("playwright-core"), fs = require("fs");
(async () => {
  const browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox"] });
  const results = [];
  for (const scheme of ["light", "dark"]) {
    const context = await browser.newContext(
      { colorScheme: scheme, viewport: { width: 390, height: 800 }, bypassCSP: true });
    const page = await context.newPage();
    const asked = [], dialogs = [];
    page.on("request", request => asked.push(request.url()));
    page.on("dialog", dialog => { dialogs.push(dialog.message()); dialog.dismiss(); });
    await page.goto("file://" + process.argv[3]);
    const inside = await page.evaluate(() => ({
      width: document.documentElement.scrollWidth,
      scripts: document.querySelectorAll("script, img").length,
      background: getComputedStyle(document.querySelector(".sm-card")).backgroundColor,
      drawn: [...document.querySelectorAll("svg")].filter(each => each.getBoundingClientRect().width > 100).length,
    }));
    await page.addScriptTag({ content: fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8") });
    const found = await page.evaluate(() => axe.run());
    results.push({ asked, dialogs, ...inside, faults: found.violations.map(each => `${each.impact}: ${each.id}`) });
    await context.close();
  }
  await browser.close();
  console.log(JSON.stringify(results));
})();
"""


def page() -> str:
    """A file with every kind of card, made of hostile text."""
    host = HostUse(HOSTILE, [(20.0, 10.0), (40.0, 250.0), (90.0, 30.0)], [(40.0, 20.0)], (30.0, 90.0))
    details = [("image", HOSTILE), ("price", "1.20 USD")]
    statuses = ("Completed", "Failed", "Stopped", "InProgress", HOSTILE)
    jobs = [JobFacts(HOSTILE, each, details, 10.0, 100.0, [host], HOSTILE, [HOSTILE] * 3) for each in statuses]
    grid = jobs_card(HOSTILE, [(f"{HOSTILE}{number}", statuses[number % 5]) for number in range(100)])
    return document(HOSTILE, [*map(job_card, jobs), grid, plan_card(HOSTILE, HOSTILE, [HOSTILE], [HOSTILE])])


@pytest.mark.parametrize("foreign", ["browser"], indirect=True)
def test_cards_in_chromium(foreign: Client) -> None:
    """No script runs, no request is made, the page is as wide as a telephone, and axe-core finds no fault."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is missing: scripts/install-chromium installs it")
    modules = foreign.bin.parent / "node_modules"
    (foreign.folder / "node_modules").symlink_to(modules.resolve())
    (foreign.folder / "open.js").write_text(OPEN)
    (foreign.folder / "cards.html").write_text(page(), encoding="utf-8")
    words = ["node", "open.js", chromium, str(foreign.folder / "cards.html")]
    done = subprocess.run(words, cwd=foreign.folder, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    for result in results:
        assert len(result["asked"]) == 1  # the file itself
        assert result["dialogs"] == []
        assert result["scripts"] == 0
        assert result["width"] == 390
        assert result["drawn"] == 15
        assert result["faults"] == []
    light, dark = (result["background"] for result in results)
    assert light == "rgb(255, 255, 255)"
    assert dark == "rgb(22, 27, 34)"
