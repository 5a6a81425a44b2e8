"""The plots and the page of a drift check, and Evidently's page."""

import io
import re
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from tasks.core.config.drift import DriftSpec
from tasks.core.drift.detector import Distribution, DriftReport, Verdict
from tasks.core.drift.explain import Topic
from tasks.core.drift.psi import new_traffic_share
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.drift_page import drift_page, sentence
from tasks.core.reporting.evidently_page import MOST, evidently_page
from tasks.core.reporting.plots import DARK, LIGHT, Theme, distribution_plot, history_plot, topics_plot

SPEC = DriftSpec()
BEGIN = datetime(2026, 3, 1, 8, tzinfo=UTC)
CHROMIUM = shutil.which("chromium") or ""
ATTACK = '<script>alert("1")</script><img src="https://evil.example/x.png" onerror=alert(1)>'
TOPICS = (
    Topic(share_reference=0.004, share_current=0.2, rows=9, medoids=(ATTACK,), terms=("$x^{$", "<b>"), coverage=0.5),
    Topic(
        share_reference=0.03, share_current=0.08, rows=5, medoids=("red birds",), terms=("布", "birds"), coverage=0.95
    ),
    Topic(share_reference=0.03, share_current=0.05, rows=3, medoids=("عباءة",), terms=(), coverage=None),
)


def distribution() -> Distribution:
    rng = np.random.default_rng(0)
    edges = np.linspace(-4, 6, 41)
    samples = (rng.normal(0, 1, 9000), np.concatenate([rng.normal(0, 1, 4000), rng.normal(3, 0.5, 1000)]))
    known, asked = (np.histogram(np.clip(s, -4, 6), edges)[0] / len(s) for s in samples)
    return Distribution(edges=edges.tolist(), reference=known.tolist(), current=asked.tolist())


def report(value: float, verdict: Verdict, p: float = 2.5e-6, n: int = 1188) -> DriftReport:
    return DriftReport(
        verdict=verdict,
        psi=value,
        psi_raw=abs(value),
        p_value=p,
        threshold=SPEC.retrain_psi,
        n=n,
        n_effective=n / 1.4,
        new_traffic_share=new_traffic_share(value),
        histogram=[0.1] * 10,
        distribution=distribution() if verdict == "retrain" else None,
    )


def record(drift: DriftReport | None, time: datetime = BEGIN, generation: int = 1, says: str = "") -> DriftRecord:
    return DriftRecord(
        key=f"models/adire/drift/reports/{time:%Y%m%dT%H%M%S}/report.json",
        time=time,
        start=time - timedelta(days=1),
        end=time,
        generation=generation,
        verdict=drift.verdict if drift else "provisional",
        says=says,
        requests=1234,
        reference_requests=8000,
        drift=drift,
        topics=TOPICS if drift and drift.verdict == "retrain" else (),
        coverage_near=0.8,
        fresh=(ATTACK, "moons & stars") if drift and drift.verdict == "retrain" else (),
    )


def past(count: int, step: timedelta) -> list[DriftRecord]:
    """Stable, a warning, a retrain, and stable again with the next generation."""
    found = [record(report(0.01, "stable"), BEGIN + i * step, 1 + (i >= count - 2)) for i in range(count)]
    found[count // 2] = record(report(0.13, "warn"), found[count // 2].time)
    found[count // 2 + 1] = record(report(0.4, "retrain"), found[count // 2 + 1].time)
    return [record(None, BEGIN - step), *found]


def colours(data: bytes) -> set[object]:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    assert picture.width > 800
    return set(picture.convert("RGB").get_flattened_data())


def rgb(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


class Reader(HTMLParser):
    """The tags of a page, what they load, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset") or (name == "href" and tag == "link"):
                self.loaded.append(value or "")
            elif name == "href":
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_distribution_shows_window_and_reference(theme: Theme) -> None:
    seen = colours(distribution_plot(distribution(), theme))
    assert {rgb(theme.window), rgb(theme.ground)} <= seen
    assert distribution_plot(distribution()) == distribution_plot(distribution())


@pytest.mark.parametrize("step", [timedelta(minutes=1), timedelta(days=20)])
def test_the_history_marks_every_verdict(step: timedelta) -> None:
    data = history_plot(past(12, step), SPEC)
    assert {rgb(LIGHT.verdicts[v]) for v in ("stable", "warn", "retrain")} <= colours(data)
    assert data == history_plot(past(12, step)[::-1], SPEC), "sorted by time"


def test_a_history_of_one_check_and_of_a_month_of_them() -> None:
    for checks in ([record(report(-0.02, "stable"))], past(720, timedelta(hours=1))):
        assert rgb(LIGHT.verdicts["stable"]) in colours(history_plot(checks, SPEC))


def test_topics_are_drawn_for_any_text_of_clients(recwarn: pytest.WarningsRecorder) -> None:
    data = topics_plot(TOPICS)
    assert {rgb(LIGHT.window), rgb(LIGHT.reference)} <= colours(data)
    assert data == topics_plot(TOPICS[::-1])
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        (report(0.243, "retrain"), "Retrain: PSI 0.243 is at or over the threshold of 0.2 (p 2.5e-06), over 1,188"),
        (report(0.13, "warn", 0.0001), "Warning: PSI 0.130 is over 0.1 and under the threshold of 0.2 (p 0.0001)"),
        (report(0.25, "warn", 0.0005), "Warning: PSI 0.250 is over the threshold of 0.2, but not significantly"),
        (report(0.12, "stable", 0.02), "Stable: PSI 0.120 is over 0.1, but may be due to chance (p 0.02)"),
        (report(-0.01, "stable", 0.7), "almost none of the traffic is new."),
        (report(0.9, "insufficient_data", n=140), "140 requests, worth 100 independent ones, and 200 independent"),
        (None, "Provisional: 812 requests of 2000."),
    ],
)
def test_the_sentence_gives_verdict_and_reason(drift: DriftReport | None, words: str) -> None:
    assert words in sentence(record(drift, says="812 requests of 2000"), SPEC)


def test_the_page_is_complete_and_has_no_scripts() -> None:
    newest = record(report(0.243, "retrain"), BEGIN + timedelta(days=30), 2)
    checks = [*past(12, timedelta(days=2)), newest]
    page = drift_page(newest, checks, SPEC, model="<adire>", profile="000002-<x>", evidently="evidently.html")
    assert page == drift_page(
        newest, checks[:-1], SPEC, model="<adire>", profile="000002-<x>", evidently="evidently.html"
    )
    read = Reader(page)
    assert not {"script", "b", "x", "adire", "link", "iframe"} & set(read.tags)
    assert len(read.loaded) == 6, "three plots, light and dark"
    assert all(address.startswith("data:image/png;base64,") for address in read.loaded)
    assert read.links == ["evidently.html"]
    for words in (ATTACK, "no picture comes near: photograph this", "12.5%", "18.6%", "generation 2", "moons & stars"):
        assert words in read.text
    assert read.text.index("Retrain: PSI 0.243") < read.text.index("Topics that grew")


@pytest.mark.parametrize(("drift", "generation"), [(None, 0), (None, 3), (report(0.9, "insufficient_data", n=140), 3)])
def test_the_page_of_an_undecided_check(drift: DriftReport | None, generation: int) -> None:
    read = Reader(drift_page(record(drift, generation=generation, says="too young"), [], SPEC, model="adire"))
    assert len(read.loaded) == (2 if drift else 0)
    assert "0.900" not in read.text, "a PSI of too few requests is not shown"
    assert ("Compared with nothing" in read.text) is (drift is None)
    assert read.links == []


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    file, logged = tmp_path / "report.html", list[str]()
    newest = record(report(0.243, "retrain"))
    file.write_text(drift_page(newest, [], SPEC, model="adire", evidently="evidently.html"))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-sync"]
        )
        page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: logged.append(message.text))
        page.on("request", lambda request: logged.append(request.url) if request.url.startswith("http") else None)
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 400, "no overflow on a phone"
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 800 && i.clientWidth > 300)")
        assert page.locator("h1").inner_text() == "People ask for something new"
        browser.close()
    assert logged == []


def test_evidently_counts_words_and_directions_without_the_words() -> None:
    rng = np.random.default_rng(0)
    words = ["rings", "dots", "stripes", "waves", "cloth", "large", "small"]
    known = [" ".join(rng.choice(words, rng.integers(2, 6))) for _ in range(MOST + 500)]
    asked = [*known[:200], *(f"<script>moons</script> {prompt}" for prompt in known[:100]), ""]
    reference = rng.normal(size=(len(known), 3)).astype(np.float32)
    current = rng.normal(size=(len(asked), 3)).astype(np.float32)
    page = evidently_page(known, asked, reference, current)
    read = Reader(page)
    assert "html" in read.tags
    assert not [a for a in read.loaded if not a.startswith("data:")], "nothing is loaded"
    for name in ("characters", "words", "sentences", "words new to the reference", "direction 3"):
        assert f'"{name}"' in page.replace('\\"', '"')
    assert "direction 4" not in page
    assert "moons" not in page
    assert re.search(r"Dataset Drift is detected", page), "a third of the window has a word of its own"


def test_a_verdict_that_only_a_later_version_knows_is_shown_as_it_is() -> None:
    drift = report(0.3, "warn").model_copy(update={"verdict": "slow_shift"})
    odd = record(drift, says="it moves by the day")
    reader = Reader(drift_page(odd, [*past(6, timedelta(days=1)), odd], SPEC, model="adire"))
    assert "slow_shift" in reader.text
    assert "Slow shift: it moves by the day." in reader.text
    assert history_plot([*past(6, timedelta(days=1)), odd], SPEC) != history_plot(past(6, timedelta(days=1)), SPEC)
