"""The demo's report: the figures of its run, and a page that holds its pictures, loads nothing and runs nothing."""

import json
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deployments.demo.plan import DemoProgress
from deployments.demo.report import OWN, write_report
from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.drift import DriftSpec
from tasks.core.config.presets import IngestSpec
from tasks.core.data.ingest import ingest
from tasks.core.drift.detector import DriftReport, Verdict
from tasks.core.gate.checks import at_least
from tasks.core.gate.decide import GateDecision
from tasks.core.gate.statistics import MEASURES, Scores
from tasks.core.monitoring.records import DriftRecord
from tasks.core.registry.ledger import Entry, append
from tasks.core.registry.results import PromotionResult, save_result
from tasks.core.retraining.decisions import Cause, make_decision, record_decision
from tasks.core.store import FolderStore
from tasks.core.store.documents import render
from tests.adire import NAME, adire
from tests.candidates import evaluation_result, training_result

BEGIN = datetime(2026, 3, 1, 8, tzinfo=UTC)
FIXED, DRIFTED = ("rings in adire_style", "dots in adire_style"), ("moons in adire_style", "stars in adire_style")
ATTACK = '<script>alert("1")</script><img src="https://evil.example/x.png">'
DIARY = DemoProgress(
    elapsed=612.3,
    timeline=[(12.0, "New pictures arrive"), (612.0, "The demo ends")],
    psi={"before": 0.01, "after_shift": 0.24, "after_retrain": 0.02},
    spent={"training": 240.0, "waiting": 31.4},
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
        self.loaded += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def scores(value: float) -> Scores:
    return {measure: dict.fromkeys(FIXED + DRIFTED, (value,)) for measure in MEASURES}


def trained(store: FolderStore, number: int) -> None:
    """A training, and its evaluation against the generation before."""
    training = training_result(
        f"t{number}", finished=BEGIN + timedelta(days=number), resumed_from=120, steps_per_second=2.5
    )
    evaluation = evaluation_result(
        f"e{number}",
        training.key,
        finished=training.finished,
        champion_generation=number - 1,
        fixed=FIXED,
        drifted=DRIFTED if number > 1 else (),
        challenger=scores(0.8),
        champion=scores(0.5),
        grids={"fixed": f"models/adire/results/evaluate/{number}.png"},
    )
    store.write(f"models/adire/results/evaluate/{number}.png", b"png of %d" % number)
    save_result(store, training)
    save_result(store, evaluation)


def promoted(store: FolderStore, number: int) -> None:
    entry = Entry(
        generation=number,
        action="promote",
        release=f"r{number}",
        dataset_version="v",
        evaluation=f"e{number}",
        actor="gate",
        reason="better",
        time=BEGIN + timedelta(days=number),
    )
    append(store, NAME, entry)


def checked(store: FolderStore, days: int, psi: float, verdict: Verdict) -> None:
    time = BEGIN + timedelta(days=days)
    report = DriftReport(
        verdict=verdict,
        psi=psi,
        psi_raw=psi,
        p_value=0.001,
        threshold=DriftSpec().retrain_psi,
        n=400,
        n_effective=300,
        new_traffic_share=0.1,
        histogram=[0.1] * 10,
    )
    record = DriftRecord(
        key=f"models/{NAME}/drift/reports/{time:%Y%m%dT%H%M%S}/report.json",
        time=time,
        start=time - timedelta(days=1),
        end=time,
        generation=1,
        verdict=verdict,
        says="",
        requests=400,
        reference_requests=6000,
        drift=report,
    )
    store.write(record.key, render(record))


@pytest.fixture
def retrained(folder: FolderStore) -> FolderStore:
    """What a whole demo leaves: two generations, two drift checks, and decisions whose reasons hold anything."""
    for number in (1, 2):
        trained(folder, number)
        promoted(folder, number)
    checked(folder, 1, 0.01, "stable")
    checked(folder, 2, 0.24, "retrain")
    causes: dict[Cause, str] = {"data": "100 new pictures", "drift": ATTACK}
    for cause, reason in causes.items():
        record_decision(folder, NAME, make_decision(cause, BEGIN, ("retrain", reason), cause))
    return folder


def test_the_figures_are_those_of_the_run(retrained: FolderStore, tmp_path: Path) -> None:
    figures = write_report(retrained, adire(), DIARY, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text()) == figures
    assert (figures["generations"], figures["retrains"], figures["retrain_triggered_by"]) == (
        2,
        ["data", "drift"],
        "drift",
    )
    assert (figures["quality_of_bare_base"], figures["quality_of_first_model"]) == (0.5, 0.8)
    assert figures["quality_gain_interval"] == [0.3, 0.3]
    assert (figures["psi_after_shift"], figures["resumed_from_step"]) == (0.24, 120)


def test_the_page_tells_all_and_runs_nothing(retrained: FolderStore, tmp_path: Path) -> None:
    write_report(retrained, adire(), DIARY, tmp_path)
    page = (tmp_path / "report.html").read_text()
    read = Reader(page)
    assert not {"script", "link", "iframe", "a"} & set(read.tags)
    assert len(read.loaded) == 4, "the plot, light and dark, and two grids"
    assert all(address.startswith("data:image/png;base64,") for address in read.loaded)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    for words in (
        ATTACK,
        "PSI rose from 0.01 to 0.24",
        "CLIPScore on the new prompts went from 0.5 to 0.8",
        "10.2 min",
        "waiting31 s",
    ):
        assert words in read.text
    assert read.text.index("before and after the retrain") < read.text.index("the base model and the first LoRA")


@pytest.mark.parametrize(
    ("generations", "words"), [(1, "passed its gate and is served"), (0, "the gate kept the bare base")]
)
def test_the_page_of_a_demo_that_ended_early(folder: FolderStore, tmp_path: Path, generations: int, words: str) -> None:
    trained(folder, 1)
    if generations:
        promoted(folder, 1)
    assert write_report(folder, adire(), DemoProgress(), tmp_path)["generations"] == generations
    read = Reader((tmp_path / "report.html").read_text())
    assert words in read.text
    assert len(read.loaded) == 1, "no check of the drift, no plot"


@pytest.fixture
def refused(folder: FolderStore, tmp_path: Path) -> FolderStore:
    """What a demo with a person's own pictures leaves when the gate keeps the base model."""
    draw_uploads(tmp_path / "own", 20, FIRST_TASTE, seed=1, pixels=64)
    for path in (tmp_path / "own").iterdir():
        folder.write(f"uploads/{adire().dataset}/{path.name}", path.read_bytes())
    ingest(folder, adire().dataset, IngestSpec())
    trained(folder, 1)
    floor = at_least("floor", "prompt_fidelity", 0.41, 0.75, "prompt fidelity is")
    passed = at_least("diversity", "diversity", 0.2, 0.1, "diversity is")
    decision = GateDecision(verdict="keep", reason=floor.says, checks=(floor, passed))
    result = PromotionResult(
        key="p1", model=NAME, finished=BEGIN, evaluation="e1", decision=decision, generation=0, release=""
    )
    save_result(folder, result)
    return folder


def test_with_own_pictures_the_page_leads_with_what_was_learned(refused: FolderStore, tmp_path: Path) -> None:
    figures = write_report(refused, adire(), DemoProgress(data="mine"), tmp_path)
    assert (figures["style_before"], figures["style_after"]) == (0.5, 0.8)
    read = Reader((tmp_path / "report.html").read_text())
    order = [
        "from 0.5 with the base model to 0.8",
        "Some of your pictures",
        "the base model and the first LoRA",
        "Why the gate refused it",
        "prompt fidelity is 0.41 where at least 0.75 is needed",
        "dyeworks train founding",
        "Passed: diversity is 0.2",
        "Decisions",
    ]
    places = [read.text.index(words) for words in order]
    assert places == sorted(places)
    assert len(read.loaded) == OWN + 1, "some of the pictures, and a grid"


def test_a_promotion_has_no_refusal(retrained: FolderStore, tmp_path: Path) -> None:
    write_report(retrained, adire(), DIARY, tmp_path)
    text = Reader((tmp_path / "report.html").read_text()).text
    assert "refused" not in text
    assert "your pictures" not in text
