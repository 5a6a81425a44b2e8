"""The outputs of a check: pages, plots, and metrics for Prometheus and MLflow."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from infra.base.visitors import FIRST_TASTE, NEW_TASTE
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.installation import Installation
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.records import DriftRecord, read_records
from tasks.core.reporting.drift_report import (
    COMPONENTS,
    drawings,
    principal_axes,
    track,
    wants_evidently,
    write_metrics,
    write_pages,
)
from tasks.core.reporting.metrics import metrics_key
from tasks.core.retraining.decisions import RetrainDecision, make_decision, record_decision
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.shop import MODEL, SPEC, CountingClip, ago, promote, visit


@pytest.fixture(scope="module")
def clip() -> CountingClip:
    return CountingClip(adire())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, clip: CountingClip) -> Path:
    """A store with three checks, a day apart: nothing to compare with, calm, and a new taste."""
    place = tmp_path_factory.mktemp("template")
    settings = Settings(store=str(place / "store"), cache=place / "cache", device="cpu")
    store = FolderStore(place / "store")
    visit(store, 1300, FIRST_TASTE, (240, 24.1))
    visit(store, 200, FIRST_TASTE, (23.9, 0), seed=2)
    visit(store, 300, NEW_TASTE, (-0.1, -24), seed=3)
    with pytest.MonkeyPatch.context() as patch:
        for hours in (24, 0, -24):
            patch.setattr(clock, "now", lambda hours=hours: ago(hours))
            DriftCheck(Installation(settings, store), adire(), SPEC, clip).run()
            if hours == 24:
                promote(store)
    return place


@pytest.fixture
def shop(template: Path, folder: FolderStore, settings: Settings) -> FolderStore:
    shutil.copytree(template / "store", settings.store, dirs_exist_ok=True)
    shutil.copytree(template / "cache", settings.cache, dirs_exist_ok=True)
    return folder


@pytest.fixture
def checks(shop: FolderStore) -> list[DriftRecord]:
    records = read_records(shop, MODEL)
    assert [record.verdict for record in records] == ["provisional", "stable", "retrain"]
    return records


Open = Callable[..., DriftCheck]


@pytest.fixture
def at(shop: FolderStore, settings: Settings, clip: CountingClip) -> Open:
    """Opens the check of an earlier record."""

    def opened(record: DriftRecord, evidently: str = "never") -> DriftCheck:
        spec = SPEC.model_copy(update={"evidently": evidently})
        return DriftCheck(Installation(settings, shop), adire(), spec, clip, record.end)

    return opened


def decided(record: DriftRecord) -> RetrainDecision:
    return make_decision("drift", record.time, ("declined", "cool-down <b>of ada</b>"), record.key)


@pytest.mark.parametrize(
    ("when", "verdicts"),
    [
        ("never", set()),
        ("drift", {"warn", "retrain"}),
        ("always", {"insufficient_data", "provisional", "stable", "warn", "retrain"}),
    ],
)
def test_evidently_is_requested_by_verdict(when: str, verdicts: set[str]) -> None:
    known = ("insufficient_data", "provisional", "stable", "warn", "retrain")
    assert {verdict for verdict in known if wants_evidently(when, verdict, True)} == verdicts
    assert {verdict for verdict in known if wants_evidently(when, verdict, False)} == (
        verdicts if when == "always" else set()
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_check_has_a_page_with_its_decision(at: Open, checks: list[DriftRecord], number: int) -> None:
    record = checks[number]
    (key,) = write_pages(at(record), record, decided(record))
    assert key == record.key.replace("report.json", "report.html")
    page = at(checks[0]).store.read(key).decode()
    assert "Decision: declined: cool-down &lt;b&gt;of ada&lt;/b&gt;" in page
    assert "evidently.html" not in page
    assert record.key in page
    assert all(topic.medoids[0] in page for topic in record.topics)


def test_a_drift_has_a_page_of_evidently(shop: FolderStore, at: Open, checks: list[DriftRecord]) -> None:
    record = checks[2]
    monitor = at(record, "drift")
    keys = write_pages(monitor, record, decided(record))
    folder = record.key.rpartition("/")[0]
    assert keys == [f"{folder}/evidently.html", f"{folder}/report.html"]
    assert 'href="evidently.html"' in shop.read(keys[1]).decode()
    assert b"words new to the reference" in shop.read(keys[0])


@pytest.mark.parametrize(("when", "number"), [("drift", 1), ("always", 0)])
def test_no_page_of_evidently_unless_requested_and_comparable(
    shop: FolderStore, at: Open, checks: list[DriftRecord], when: str, number: int
) -> None:
    shop.delete(f"models/{MODEL}/promotions/000001.json")
    record = checks[number]
    assert len(write_pages(at(record, when), record, decided(record))) == 1


def test_writing_pages_is_idempotent(at: Open, checks: list[DriftRecord]) -> None:
    first = write_pages(at(checks[1]), checks[1], decided(checks[1]))
    page = at(checks[0]).store.read(first[0])
    assert write_pages(at(checks[1]), checks[1], decided(checks[1])) == first
    assert at(checks[0]).store.read(first[0]) == page


def test_a_drift_is_drawn(at: Open, checks: list[DriftRecord]) -> None:
    found = drawings(at(checks[2]), checks[2])
    assert set(found) == {"drift-history", "drift-scores", "drift-topics"}
    for description, picture in found.values():
        assert description
        assert Image.open(io.BytesIO(picture)).format == "PNG"


def test_a_stable_check_has_no_topics_to_draw(at: Open, checks: list[DriftRecord]) -> None:
    assert set(drawings(at(checks[1]), checks[1])) == {"drift-history", "drift-scores"}
    assert drawings(at(checks[0]), checks[0]) == {}


def test_a_history_ends_with_its_own_check(at: Open, checks: list[DriftRecord]) -> None:
    before = drawings(at(checks[1]), checks[1])["drift-history"]
    at(checks[0]).store.delete(checks[2].key)
    assert drawings(at(checks[1]), checks[1])["drift-history"] == before


def test_metrics_hold_the_check_and_the_cost_of_retrains(at: Open, checks: list[DriftRecord]) -> None:
    for name, outcome, hours in (("a", "promote", 0.5), ("b", "keep", 0.25), ("c", "keep", 0.25)):
        ended = make_decision("outcome", ago(5000), ("none", "ended"), name)
        changed = ended.model_copy(update={"outcome": outcome, "gpu_hours": hours})
        record_decision(at(checks[0]).store, MODEL, changed)
    record_decision(at(checks[0]).store, MODEL, decided(checks[2]))
    write_metrics(at(checks[2]), checks[2])
    lines = at(checks[0]).store.read(metrics_key(MODEL)).decode().splitlines()
    assert checks[2].drift
    assert f'dyeworks_drift_psi{{model="adire"}} {checks[2].drift.psi!r}' in lines
    assert 'dyeworks_drift_verdict{model="adire",verdict="retrain"} 1.0' in lines
    assert 'dyeworks_retrains_total{model="adire",outcome="keep"} 2.0' in lines
    assert 'dyeworks_retrains_total{model="adire",outcome="promote"} 1.0' in lines
    assert 'dyeworks_retrain_gpu_hours_total{model="adire"} 1.0' in lines


def test_metrics_of_a_check_without_a_reference_have_no_psi(at: Open, checks: list[DriftRecord]) -> None:
    write_metrics(at(checks[0]), checks[0])
    text = at(checks[0]).store.read(metrics_key(MODEL)).decode()
    assert "dyeworks_drift_psi" not in text
    assert "dyeworks_drift_window_requests" in text


def test_checks_are_logged_to_mlflow(
    at: Open, checks: list[DriftRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    pinned = checks[2].model_copy(update={"reference_generation": 7})
    for record in (*checks, pinned):
        track(at(record), record)
    client = MlflowClient()
    (home,) = client.search_experiments(filter_string="name = 'adire-drift'")
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([home.experiment_id])}
    assert set(runs) == {"reference of generation 1", "reference of generation 7"}
    steps = {m.step: m.value for m in client.get_metric_history(runs["reference of generation 1"], "psi")}
    assert steps == {int(r.time.timestamp()) // 60: r.drift.psi for r in checks[1:] if r.drift}
    assert set(client.get_run(runs["reference of generation 7"]).data.metrics) == {
        "psi", "p_value", "new_traffic_share", "n", "n_effective", "threshold",
    }  # fmt: skip


def test_the_axes_are_those_of_most_variance(at: Open, checks: list[DriftRecord]) -> None:
    profile, frozen = at(checks[2]).reference
    assert profile
    assert frozen
    axes = principal_axes(profile)
    assert np.allclose(axes.T @ axes, np.eye(COMPONENTS), atol=1e-5)
    spread = (profile.reference @ axes).var(axis=0)
    assert (np.diff(spread) <= 0).all()
    other = np.random.default_rng(1).standard_normal((profile.card.dimension, 1))
    assert spread.min() > (profile.reference @ (other / np.linalg.norm(other))).var()
