"""The decision document: verdict, every check, next steps, and no script."""

import base64
import io
import json
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import sync_playwright

from tasks.core.config.presets import GateSpec
from tasks.core.config.stored import read_stored
from tasks.core.gate.checks import Check
from tasks.core.gate.decide import GateDecision, decide, settle
from tasks.core.gate.evidence import Evidence
from tasks.core.gate.statistics import Measure
from tasks.core.reporting.gate_page import gate_markdown, gate_page
from tasks.core.reporting.gate_text import About
from tests.futures import NEW, instances
from tests.gates import Pair, World

ATTACK = '<script>alert("1")</script>|`x`[y](https://evil.example)\n# *z*'
CHROMIUM = shutil.which("chromium") or ""
ABOUT = About(
    model="adire",
    training="5f2c9a11",
    champion_generation=3,
    champion_release="9a8b7c6d",
    dataset="cloth",
    dataset_version="77aa01bc",
    scorer="embedded",
    scale="CLIPScore 2.5 max(cos, 0)",
    prompt_set="d41d8cd9",
    prompts={"fixed": 12, "drifted": 8},
    seeds=(1, 2, 3),
    time=datetime(2026, 3, 1, 8, 5, tzinfo=UTC),
)


class Reader(HTMLParser):
    """The tags of a page, what they load, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def made(gain: float = 0.05, looks: int = 0, evidence: Evidence = Evidence(), **worse: float) -> GateDecision:
    """A decision over 24 prompts, its guards worse by these numbers of margins."""
    shifts: dict[Measure, float] = {"diversity": worse.get("diversity", 0.0), "forgetting": worse.get("forgetting", 0)}
    pair = Pair(World(prompts=24, gain=gain, worse=shifts), np.random.default_rng(4))
    challenger, champion = pair.scores()
    spec = pair.world.spec(1000)
    again = [pair.look("diversity kept", "diversity") for _ in range(looks)]
    return settle(challenger, champion, spec, again, evidence=evidence)


def both(decision: GateDecision, about: About = ABOUT) -> tuple[str, str]:
    """The page's text and the Markdown, without its escapes."""
    return Reader(gate_page(decision, about, {})).text, gate_markdown(decision, about).replace("\\", "")


def test_a_promotion_is_explained_with_its_figures() -> None:
    decision, about = made(), ABOUT.model_copy(update={"generation": 4, "release": "0f3b5c7d"})
    assert decision.verdict == "promote"
    for text in both(decision, about):
        assert "Promoted as generation 4" in text
        assert re.search(r"The challenger replaces generation 3: prompt fidelity is better: \+0\.0\d\d \(\+0\.", text)
        assert "and all 7 other checks are passed" in text
        for fact in ("release 0f3b5c7d", "generation 3, release 9a8b7c6d", "version 77aa01bc of cloth", "12 fixed"):
            assert fact in text
        assert "3 for each prompt, the same for both" in text
        assert "1 March 2026, 08:05 UTC" in text
        assert "roll-back restores generation 3" in text


def test_every_check_is_in_the_tables_with_figure_interval_and_margin() -> None:
    decision = made(diversity=3.0)
    page, text = both(decision)
    for check in decision.checks:
        ends = [check.value] if check.low is None else [check.value, check.low, check.high or 0, check.limit]
        for value in ends:
            figure = f"{abs(value):.3f}" if check.kind != "superiority" or value else "0"
            assert figure in page
            assert figure in text
    assert page.count("not worse than allowed") == 4
    assert text.count("not worse than allowed") == 4
    drawings = gate_page(decision, ABOUT, {}).count("<svg ")
    assert drawings == 6


def test_a_rejection_gives_reasons_and_advice() -> None:
    for text in both(made(gain=0.0, diversity=3.0)):
        assert "Generation 3 stays" in text
        assert "The challenger does not replace generation 3: prompt fidelity is not significantly better" in text
        assert "diversity is worse than allowed: \u2212" in text
        assert "Nothing changes for users" in text
        assert "train on more pictures of what people ask for" in text
        assert "pictures of a prompt have become alike" in text
        assert "spec.actor and spec.reason" in text
        assert "the style has faded" not in text.lower()


def test_an_undecided_guard_is_reported_before_and_after_its_looks() -> None:
    before, after = made(diversity=1.0), made(diversity=1.0, looks=2)
    assert (before.verdict, after.verdict) == ("inconclusive", "keep")
    for text in both(before):
        assert "Generation 3 stays for now" in text
        assert "whether diversity is worse than allowed is undecided yet" in text
    for text in both(after):
        assert "is undecided after 3 looks" in text
        assert "diversity: 3 looks" in text
        assert "would narrow the interval of diversity" in text


def test_a_person_who_overruled_is_named() -> None:
    about = ABOUT.model_copy(update={"generation": 4, "actor": "ada", "reason": "the autumn show"})
    for text in both(made(gain=0.0), about):
        assert "Promoted as generation 4, by ada against the gate" in text
        assert "ada promoted the challenger (the autumn show) although the gate would not have" in text
        assert "ada: the autumn show" in text
    for text in both(made(), about):
        assert "against the gate" not in text, "the gate agreed"


@pytest.mark.parametrize(
    ("generation", "bare", "words"),
    [(0, True, "replaces the bare base model: style fidelity is better"), (None, False, "all 5 checks are passed")],
)
def test_a_first_model(generation: int | None, bare: bool, words: str) -> None:
    challenger, champion = Pair(World(prompts=24), np.random.default_rng(0)).scores()
    champion["style_fidelity"] = {p: tuple(v - 0.3 for v in vs) for p, vs in champion["style_fidelity"].items()}
    evidence = Evidence(bare_base=bare)
    decision = decide(challenger, champion if bare else None, GateSpec(resamples=500), evidence=evidence)
    about = ABOUT.model_copy(update={"champion_generation": generation, "champion_release": "", "generation": 1})
    for text in both(decision, about):
        assert words in text
        assert "Promoted as generation 1" in text
        assert "roll-back" not in text


def test_a_refusal_replaces_the_other_checks() -> None:
    for text in both(made(evidence=Evidence(refusals=("the picture of 'rings', seed 3, is black",)))):
        assert "The challenger does not replace generation 3: the picture of 'rings', seed 3, is black." in text
        assert "it must be repeated" in text
        assert "1.000" not in text
        assert "margin" not in text.split("Rejected for a fault")[-1].split("How to read")[0]


@pytest.mark.parametrize(
    ("held", "row"),
    [(0, "training pictures: nothing was held out"), (7, "7 held-out pictures"), (None, "not recorded")],
)
def test_the_document_states_what_style_was_compared_with(held: int | None, row: str) -> None:
    decision = made(evidence=Evidence(held=held))
    for text in both(decision, ABOUT.model_copy(update={"held": held})):
        assert row in text
        assert ("Nothing was held out of the dataset version" in text) == (held == 0)
        assert "no training has seen" not in text
    assert "Nothing was held out" not in decision.reason


def test_clients_text_is_escaped() -> None:
    evidence = Evidence(groups={ATTACK: ("prompt 1",), "b": ("prompt 2",)}, drifted=())
    update = {"actor": ATTACK, "reason": ATTACK, "model": ATTACK, "scorer": ATTACK, "prompts": {ATTACK: 3}}
    about, decision = ABOUT.model_copy(update=update | {"generation": 4}), made(evidence=evidence, gain=0.0)
    page = gate_page(decision, about, {ATTACK: b"png"})
    read = Reader(page)
    assert not {"script", "a", "link", "iframe", "object"} & set(read.tags)
    assert ATTACK in read.text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    text = gate_markdown(decision, about)
    assert "<script>" not in text
    assert re.search(r"(?<!\\)[\[<`]", text) is None
    assert not [line for line in text.splitlines() if line.startswith("# ") and "z" in line and "Promoted" not in line]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {3, 5}


def test_pictures_are_embedded_with_their_titles() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "navy").save(buffer, "PNG")
    grids = {"the fixed prompts": buffer.getvalue(), "the drifted prompts": buffer.getvalue()}
    read = Reader(gate_page(made(), ABOUT, grids))
    assert read.tags.count("img") == 2
    assert [base64.b64decode(a.removeprefix("data:image/png;base64,")) for a in read.loaded] == [*grids.values()]
    assert "the drifted prompts" in read.text


def test_better_is_to_the_right_for_every_measure() -> None:
    def dot(measure: Measure, value: float, limit: float) -> float:
        check = Check(
            name=f"{measure} kept",
            kind="guard",
            measure=measure,
            value=value,
            low=value - 0.01,
            high=value + 0.01,
            limit=limit,
            verdict="unsure",
            says="",
        )
        page = gate_page(GateDecision(verdict="inconclusive", reason="", checks=(check,)), ABOUT, {})
        return float(re.findall(r'class="dot" cx="([\d.]+)"', page)[0])

    middle = dot("diversity", 0.0, -0.05)
    assert dot("diversity", 0.02, -0.05) > middle > dot("diversity", -0.02, -0.05)
    assert dot("forgetting", 0.02, 0.05) < middle < dot("forgetting", -0.02, 0.05)
    assert dot("diversity", -9.0, -0.05) == 8, "clipped to the edge"


def test_about_round_trips_as_a_document() -> None:
    assert About.model_validate_json(ABOUT.model_dump_json()) == ABOUT


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    file, logged = tmp_path / "decision.html", list[str]()
    file.write_text(gate_page(made(diversity=3.0), ABOUT, {}))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-sync"]
        )
        page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: logged.append(message.text))
        page.on("request", lambda request: logged.append(request.url) if request.url.startswith("http") else None)
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 400, "no overflow on a phone"
        assert page.evaluate("[...document.querySelectorAll('svg')].every(s => s.clientWidth > 200)")
        assert page.locator("h1").inner_text() == "Generation 3 stays"
        browser.close()
    assert logged == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_decision_of_a_later_version_is_shown_as_it_is(data: st.DataObject) -> None:
    plain = data.draw(instances(GateDecision)).model_dump(mode="json")
    for part in (plain, *plain["checks"]):
        for name in ("verdict", "kind", "measure"):
            if part.get(name) and data.draw(st.booleans()):
                part[name] = NEW
    decision, about = read_stored(GateDecision, json.dumps(plain)), data.draw(instances(About))
    page, markdown = both(decision, about)
    if decision.verdict == NEW and not about.overruled:
        assert f": {NEW}" in page
        assert f": {NEW}" in markdown
    for check in decision.checks:
        assert check.verdict != NEW or NEW in page


def test_a_verdict_that_only_a_later_version_knows_is_none_of_the_known_ones() -> None:
    for generation, words in ((0, "Generation 3 stays: wait"), (4, "Promoted as generation 4: wait")):
        decision = made().model_copy(update={"verdict": "wait", "reason": "the season is over"})
        for text in both(decision, ABOUT.model_copy(update={"generation": generation})):
            assert words in text
            assert "the season is over" in text
