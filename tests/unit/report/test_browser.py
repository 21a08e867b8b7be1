"""The page in a real browser: silent, alone, and no wider than a phone."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest

from terracausal.report import Report

_NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, _NAMES) if path), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # the browser's own errands end here, whatever they are
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=5000",
)
# the page of the test, not of the product, does the measuring
MEASURE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,">
<body><iframe id="f" src="{page}" style="width:{width}px;height:844px;border:0"></iframe>
<pre id="found"></pre><script>
onload = () => {{
  const page = document.getElementById("f").contentDocument;
  const root = page.documentElement, rect = e => e.getBoundingClientRect();
  const inScroller = e => e.closest(".scroll, pre");
  document.getElementById("found").textContent = JSON.stringify({{
    scrollWidth: root.scrollWidth,
    clientWidth: root.clientWidth,
    tooWide: [...page.body.querySelectorAll("*")]
      .filter(e => !inScroller(e) && rect(e).right > root.clientWidth + 0.5).map(e => e.tagName),
    images: [...page.images].map(i => [i.complete && i.naturalWidth > 0, rect(i).width]),
    smallestText: Math.min(...[...page.querySelectorAll("p, li, td, th, figcaption, a, pre, dt")]
      .map(e => parseFloat(getComputedStyle(e).fontSize))),
  }});
}};
</script></body></html>"""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs a browser; none of {', '.join(_NAMES)} is installed"
)


def browse(page, profile, *flags):
    """Return the document after loading, and what the browser logged."""
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def console(log):
    """Return the console messages of a log: level and text."""
    return re.findall(r":(\w+):CONSOLE[:(]\d+\)?\] (.*)", log)


def requested(net_log):
    """Return the web addresses that the page asked for.

    The browser has errands of its own (updates, the time); it marks them "not an origin".
    """
    log = json.loads(net_log.read_text(encoding="utf-8"))
    started = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event["params"] for event in log["events"] if event["type"] == started]
    asked = [found for found in asked if found.get("url", "").startswith(("http", "ws"))]
    return [found["url"] for found in asked if found.get("initiator") != "not an origin"]


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    return Report(
        results,
        title="Grants in the northern parishes",
        subtitle="a_very_long_name_without_any_space_" * 4,
        notes=["Simulated study."],
    ).to_html(folder / "report.html")


def test_the_console_is_silent_and_nothing_is_requested(page, tmp_path):
    net_log = tmp_path / "net.json"
    document, log = browse(page, tmp_path / "profile", f"--log-net-log={net_log}")
    assert "How this was made" in document
    assert console(log) == []
    assert requested(net_log) == []


def test_the_checks_would_notice(tmp_path):
    """A page that breaks both rules is caught, so silence above means something."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!DOCTYPE html><link rel="icon" href="data:,"><img src="http://127.0.0.1:9/x.png">'
        "<script>console.error('broken'); console.warn('odd')</script>"
    )
    net_log = tmp_path / "net.json"
    _, log = browse(bad, tmp_path / "profile", f"--log-net-log={net_log}")
    assert "broken" in " ".join(text for _, text in console(log))
    assert requested(net_log) == ["http://127.0.0.1:9/x.png"]


@pytest.mark.parametrize("width", [390, 320, 1280])
def test_the_page_is_no_wider_than_the_screen(page, tmp_path, width):
    wrapper = tmp_path / "measure.html"
    wrapper.write_text(MEASURE.format(page=page.as_uri(), width=width), encoding="utf-8")
    document, _ = browse(wrapper, tmp_path / "profile", "--window-size=1400,1000")
    text = re.search(r'<pre id="found">(.*?)</pre>', document, re.S).group(1)
    found = json.loads(text)
    assert found["scrollWidth"] == found["clientWidth"]
    assert found["clientWidth"] > width - 20
    assert found["tooWide"] == []
    assert len(found["images"]) == 12
    assert all(loaded and shown > 100 for loaded, shown in found["images"])
    assert found["smallestText"] >= 12


class LongNames:
    """A result that the report does not know, with names that do not want to break."""

    title = "an_unbreakable_title_" * 4

    def headline(self):
        return "Effects differ in a_column_with_a_name_that_goes_on_and_on_without_any_space."

    def summary(self):
        return "effects by column " * 20

    def to_dataframe(self):
        terms = [f"embedding_column_without_any_space_{k:03d}" for k in range(40)]
        table = pd.DataFrame({"term": terms, "estimate": 1e6, "std_error": 1.0})
        return table.assign(ci_low=-1e7, ci_high=1e7, further_column=0.5, another_one="x" * 30)


def test_a_page_of_unknown_results_fits_a_phone(tmp_path):
    page = Report([LongNames()], notes=["x" * 200]).to_html(tmp_path / "report.html")
    wrapper = tmp_path / "measure.html"
    wrapper.write_text(MEASURE.format(page=page.as_uri(), width=390), encoding="utf-8")
    document, _ = browse(wrapper, tmp_path / "profile", "--window-size=1400,1000")
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', document, re.S).group(1))
    assert found["scrollWidth"] == found["clientWidth"]
    assert found["tooWide"] == []
