"""Evaluations from plan to gate: models of known faults, painted pictures, the real scorer, store and MLflow."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import EvaluationSpec, GateSpec, IngestSpec, Margins
from tasks.core.config.prompts import load_prompts
from tasks.core.config.requests import CalibrateRequest, EvaluateRequest, WithdrawRequest
from tasks.core.config.training import TrainSpec
from tasks.core.data.dataset import ingest, manifest_key
from tasks.core.data.split import split
from tasks.core.errors import PlanMismatch, ReleaseWithdrawn, ResultMissing, SettingError
from tasks.core.evaluation.calibration import calibration_scores
from tasks.core.evaluation.measures import Fault, Findings, refusals
from tasks.core.evaluation.plan import EvaluationPlan, plan_evaluation
from tasks.core.evaluation.references import find_references
from tasks.core.evaluation.run import evaluate, seeds_of
from tasks.core.gate.decide import GateDecision, decide
from tasks.core.gate.statistics import MEASURES, Scores
from tasks.core.lifecycle.promote import gate
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.models.clip import Clip
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.images import NAN, light
from tasks.core.registry import ledger
from tasks.core.registry.releases import ReleaseManifest, write_release
from tasks.core.registry.results import EvaluationResult, TrainResult, get_result, save_result
from tasks.core.store import FolderStore, delete_prefix
from tasks.core.store.documents import render
from tasks.core.training.dataset import load_pictures
from tests.adire import NAME, adire, installed
from tests.painter import Cut, Painter, all_jobs

SPEC = EvaluationSpec(prompts=load_prompts("embedded-1"), seeds=(1, 2), steps=12, guidance=2.0, batch=12)
WIDE = Margins(
    prompt_fidelity=0.2, style_fidelity=0.1, diversity=0.1, forgetting=0.1, near_copies=0.1, render_seconds=1.0
)
GATE = GateSpec(margins=WIDE, min_diversity=0.005, resamples=1000)
DRIFTED = tuple(
    f"{what} in adire_style"
    for what in (
        "small rings for my scarf",
        "large checks",
        "small checks",
        "large rings on a wall",
        "small dots for a bag",
        "checks",
    )
)  # of two the interval would span everything


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(adire(), "cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset of fifty pictures, from which each test begins."""
    folder = tmp_path_factory.mktemp("dataset")
    draw_uploads(folder / "uploads/adire", 50, FIRST_TASTE, seed=1, pixels=64)
    ingest(FolderStore(folder), "adire", IngestSpec())
    return folder


@pytest.fixture(scope="module")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
    yield MlflowClient()
    mlflow.set_tracking_uri(before)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow sets it for its children


@pytest.fixture
def store(dataset: Path, folder: FolderStore, tmp_path: Path) -> FolderStore:
    shutil.copytree(dataset, tmp_path / "store", dirs_exist_ok=True)
    return folder


class Shop:
    """A store with models that can be compared."""

    def __init__(self, store: FolderStore, model: ModelConfig, clip: Clip) -> None:
        self.store, self.model, self.clip = store, model, clip
        self.manifest = ingest(store, "adire", IngestSpec())[0]
        kept = split(store, self.manifest).train
        pictures = load_pictures(store, "adire", kept, 64)
        self.originals = {
            f"{item.caption} {item.name} {size_of(item.name)}": p for item, p in zip(kept, pictures, strict=True)
        }

    def train(self, kind: str) -> str:
        """A training whose adapter paints like this."""
        self.store.write(f"checkpoints/{kind}/adapter/{WEIGHTS}", kind.encode())
        told = {
            "key": kind,
            "model": "adire",
            "finished": clock.now(),
            "dataset": "adire",
            "dataset_version": self.manifest.version,
        }
        told |= {"spec": TrainSpec(resolution=64), "mlflow_run": "", "adapter": f"checkpoints/{kind}/adapter/"}
        told |= {"loss": 0.1, "resumed_from": 0, "steps_per_second": 1.0}
        save_result(self.store, TrainResult.model_validate(told))
        return kind

    def crown(self, kind: str, folder: Path) -> str:
        """Make a model that paints like this the champion."""
        folder.mkdir()
        (folder / WEIGHTS).write_text(kind)
        about = {"base_model": "", "dataset": "adire", "dataset_version": self.manifest.version, "training": kind}
        release = write_release(
            self.store,
            self.model.name,
            folder,
            ReleaseManifest.model_validate(about | {"trigger": "adire_style", "files": {}}),
        )
        entries = ledger.history(self.store, self.model.name)
        told = {"generation": len(entries) + 1, "action": "promote", "release": release, "time": clock.now()}
        told |= {"dataset_version": "", "actor": "gate", "reason": "better"}
        ledger.append(self.store, self.model.name, ledger.Entry.model_validate(told))
        return release

    def plan(self, kind: str, spec: EvaluationSpec = SPEC, gate: GateSpec = GATE, **more: object) -> EvaluationPlan:
        request = EvaluateRequest.model_validate({"training": kind, "evaluation": spec, "gate": gate} | more)
        return plan_evaluation(installed(self.store), self.model, request)

    def painter(self, cut: int = 0) -> Painter:
        return Painter(self.originals, cut)

    def evaluate(self, plan: EvaluationPlan, painter: Painter | None = None) -> EvaluationResult:
        chosen = painter or self.painter()
        return evaluate(installed(self.store), self.model, plan, self.clip, lambda *_: chosen)


def size_of(name: str) -> str:
    """Uploads take turns in their motif first, then in their size."""
    return ("large", "small")[int(Path(name).stem[-3:]) // len(FIRST_TASTE) % 2]


@pytest.fixture
def shop(
    store: FolderStore,
    model: ModelConfig,
    clip: Clip,
    mlflow_home: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    monkeypatch.chdir(tmp_path)  # artifacts of MLflow lie where the process is
    return Shop(store, model, clip)


def failed(decision: GateDecision) -> set[str]:
    return {check.name for check in decision.checks if not check.passed}


FORGOT = ("on prompts without the trigger the CLIPScore lies under that of the bare base", "forgetting +0.9")
FAULTS = [
    ("copies", {"refused"}, {"refused"}, "are copies of training pictures"),
    (
        "black",
        {"refused"},
        {"refused"},
        "4 of 36 pictures are black, the first: 'large waves in adire_",
    ),
    ("nan", {"refused"}, {"refused"}, "4 of 36 pictures are not a number"),
    ("slow", {"speed"}, {"speed", "render_seconds kept"}, "a picture takes 40 s where at most 30 s is allowed"),
    ("forgot", {"forgetting"}, {"forgetting kept"}, FORGOT),
    ("ignores", {"floor"}, {"floor", "prompt_fidelity better"}, "mean CLIPScore"),
]


@pytest.mark.parametrize(("kind", "first", "later", "reason"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_bad_challenger_is_kept_out_for_its_own_reason(
    shop: Shop, tmp_path: Path, kind: str, first: set[str], later: set[str], reason: str | tuple[str, ...]
) -> None:
    shop.train(kind)
    against_base = shop.evaluate(shop.plan(kind))
    shop.crown("half", tmp_path / "half")
    against_champion = shop.evaluate(shop.plan(kind))
    for result, expected in ((against_base, first), (against_champion, later)):
        decision = gate(result, GATE)
        assert decision.verdict == "keep", decision.reason
        assert failed(decision) == expected, decision.reason
        told = (reason,) if isinstance(reason, str) else reason
        assert any(words in decision.reason for words in told), decision.reason


def test_where_nothing_is_held_out_result_and_decision_say_so(shop: Shop) -> None:
    shop.train("good")
    assert shop.evaluate(shop.plan("good")).evidence.held == 5
    trained = [item for item in shop.manifest.items if int(item.sha256[:8], 16) % 10]  # by the rule of before, too
    ten = shop.manifest.model_copy(update={"version": "ten", "dataset": "ten", "items": tuple(trained[:10])})
    shop.store.write(manifest_key("ten", "ten"), render(ten))
    few = get_result(shop.store, NAME, TrainResult, "good").model_copy(update={"key": "few", "dataset": "ten"})
    save_result(shop.store, few.model_copy(update={"dataset_version": "ten"}))
    result = shop.evaluate(shop.plan("few"))
    assert result.evidence.held == 0
    assert any("Nothing was held out" in note for note in gate(result, GATE).notes)
    parts = split(shop.store, ten)
    originals = find_references(shop.store, ten, 64, SPEC, shop.clip)
    assert (originals.style == originals.trained).all()
    assert (len(parts.train), len(parts.held), originals.held) == (10, 0, 0)


def test_copies_that_the_hash_lets_through_are_near(shop: Shop) -> None:
    shop.train("copies")
    shop.train("good")
    lenient = SPEC.model_copy(update={"max_exact": 1.0})
    assert failed(gate(shop.evaluate(shop.plan("copies", lenient)), GATE)) == {"copies"}
    assert failed(gate(shop.evaluate(shop.plan("good", lenient)), GATE)) == set()


def test_an_honest_challenger_passes_the_same_gate(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    for champion in ("", "half"):
        if champion:
            shop.crown(champion, tmp_path / champion)
        result = shop.evaluate(shop.plan("good", drifted=DRIFTED))
        decision = gate(result, GATE)
        assert decision.verdict == "promote", decision.reason
        assert result.evidence.bare_base is not bool(champion)


def test_every_measure_is_there_for_both_models_on_its_own_prompts(shop: Shop) -> None:
    shop.train("good")
    result = shop.evaluate(shop.plan("good", drifted=DRIFTED))
    styled = set(result.fixed + result.drifted)
    expected = dict.fromkeys(MEASURES, styled)
    expected |= {"diversity": set(result.fixed), "forgetting": set(result.general)}
    expected |= {"render_seconds": styled | set(result.general)}
    for scores in (result.challenger, result.champion):
        assert {measure: set(values) for measure, values in scores.items()} == expected
        assert all(np.isfinite(v).all() for values in scores.values() for v in values.values())
        assert all(len(v) == 2 for m, values in scores.items() if m != "diversity" for v in values.values())
    assert all(v == (0.0, 0.0) for v in result.champion["forgetting"].values()), "the bare base has forgotten nothing"
    assert result.scoring == shop.clip.scoring
    assert result.evidence.near_limit is not None
    assert result.evidence.size_bytes == len("good")
    assert result.evidence.groups["rings"] == tuple(p for p in result.fixed if "rings" in p)
    assert result.spec.prompts.trigger == load_prompts("embedded-1").trigger, "the content is kept, not the name"


def test_forgetting_is_paired_with_the_bare_base_by_seed(shop: Shop) -> None:
    shop.train("forgot")
    result = shop.evaluate(shop.plan("forgot"))
    painter, prompt = shop.painter(), "large red stripes on white"
    lost = [
        shop.clip.score([prompt] * 2, [painter.paint(kind, prompt, seed) for kind in ("base", "forgot")])
        for seed in SPEC.seeds
    ]
    assert result.challenger["forgetting"][prompt] == pytest.approx([base - own for base, own in lost])


def test_nothing_is_painted_twice(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    shop.train("forgot")
    first, painter = shop.plan("good"), shop.painter()
    shop.evaluate(first, painter)
    assert len(painter.painted) == len(set(painter.painted))
    assert set(painter.painted) == all_jobs(first, "good") | all_jobs(first, "base")
    shop.crown("good", tmp_path / "good")
    second, painter = shop.plan("forgot"), shop.painter()
    shop.evaluate(second, painter)
    assert set(painter.painted) == all_jobs(second, "forgot"), "neither the champion nor the bare base again"
    again = shop.painter()
    assert shop.evaluate(second, again) == get_result(shop.store, NAME, EvaluationResult, second.key)
    assert again.painted == []


def test_a_killed_evaluation_goes_on(shop: Shop) -> None:
    shop.train("good")
    plan, cut = shop.plan("good"), shop.painter(cut=3)
    with pytest.raises(Cut):
        shop.evaluate(plan, cut)
    assert len(cut.painted) == 24
    rest = shop.painter()
    shop.evaluate(plan, rest)
    assert set(cut.painted) | set(rest.painted) == all_jobs(plan, "good") | all_jobs(plan, "base")
    assert set(cut.painted).isdisjoint(rest.painted)


def test_further_looks_render_the_prompts_of_the_unsure_guard_alone(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    shop.crown("half", tmp_path / "half")
    strict = GATE.model_copy(update={"margins": WIDE.model_copy(update={"diversity": 1e-6}), "max_looks": 2})
    shop.evaluate(shop.plan("good", drifted=DRIFTED))
    plan, painter = shop.plan("good", gate=strict, drifted=DRIFTED), shop.painter()
    assert plan.key != shop.plan("good", drifted=DRIFTED).key, "the gate decides on looks"
    result = shop.evaluate(plan, painter)
    assert [look.check for look in result.looks] == ["diversity kept"] * len(result.looks)
    assert 1 <= len(result.looks) <= 2
    seeds = [seed for look in range(1, len(result.looks) + 1) for seed in seeds_of(plan, look)]
    assert len(set(seeds)) == len(seeds)
    assert set(seeds).isdisjoint(SPEC.seeds)
    assert set(painter.painted) == {(m, p, s) for m in ("good", "half") for p in plan.fixed for s in seeds}
    decided = gate(result, strict)
    assert decided.verdict != "inconclusive"
    first = decide(result.challenger, result.champion, strict, evidence=result.evidence)
    assert first.verdict == "inconclusive"


def test_visitors_may_ask_for_a_picture_of_one_colour() -> None:
    def seen(kind: str, prompt: str) -> Findings:
        return Findings({}, pictures=8, faults=[Fault(kind, prompt, f"{prompt!r} with seed 1")])

    assert refusals(seen("black", "a night"), ("a night",), 0.05) == ()
    assert refusals(seen(NAN, "a night"), ("a night",), 0.05)
    (told,) = refusals(seen("black", "rings"), ("a night",), 0.05)
    assert told == "1 of 8 pictures are black, the first: 'rings' with seed 1"


def test_a_refused_challenger_gets_no_further_looks(shop: Shop, tmp_path: Path) -> None:
    shop.train("black")
    shop.crown("half", tmp_path / "half")
    strict = GATE.model_copy(update={"margins": WIDE.model_copy(update={"diversity": 1e-6})})
    assert shop.evaluate(shop.plan("black", gate=strict)).looks == ()


def test_after_a_roll_back_to_the_bare_base_it_is_the_champion(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    shop.crown("half", tmp_path / "half")
    entry = ledger.history(shop.store, shop.model.name)[-1]
    back = entry.model_copy(update={"generation": 2, "action": "roll_back", "release": ""})
    ledger.append(shop.store, shop.model.name, back)
    painter = shop.painter()
    result = shop.evaluate(shop.plan("good"), painter)
    assert (result.champion_generation, result.evidence.bare_base) == (2, True)
    assert {kind for kind, _, _ in painter.painted} == {"good", "base"}


def test_what_is_compared_is_planned_before_anything_is_spent(shop: Shop) -> None:
    with pytest.raises(ResultMissing):
        shop.plan("")
    shop.train("good")
    bare = SPEC.model_copy(update={"prompts": EvaluationSpec(prompts=["rings in {trigger}"]).prompts})
    with pytest.raises(SettingError, match="neither class_noun nor general prompts, so forgetting cannot be measured"):
        shop.plan("good", bare)
    plan = shop.plan("good", drifted=(*DRIFTED, DRIFTED[0], "large rings in adire_style"))
    assert plan.drifted == DRIFTED, "neither twice nor a fixed one"
    elsewhere = plan.model_copy(update={"scorer": "another"})
    with pytest.raises(PlanMismatch, match="the scorer"):
        shop.evaluate(elsewhere)


def test_a_training_that_was_withdrawn_is_not_planned(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    shop.crown("good", tmp_path / "good")
    request = WithdrawRequest(generation=1, actor="ada", reason="a picture was removed", delete_weights=True)
    withdraw(installed(shop.store), shop.model, request)
    for named in ("good", ""):
        with pytest.raises(ReleaseWithdrawn, match="of training good was withdrawn by ada"):
            shop.plan(named)


def test_a_training_whose_adapter_was_deleted_counts_as_none(shop: Shop) -> None:
    shop.train("good")
    plan, painter = shop.plan("good"), shop.painter()
    delete_prefix(shop.store, "checkpoints/good")
    with pytest.raises(ResultMissing, match="'train' under key good"):
        shop.evaluate(plan, painter)
    assert painter.painted == []


def test_grids_and_figures_are_kept_for_people_and_machines(shop: Shop, mlflow_home: MlflowClient) -> None:
    shop.train("good")
    shop.model = adire(name="shown")
    result = shop.evaluate(shop.plan("good", drifted=DRIFTED))
    assert set(result.grids) == {"fixed", "drifted", "general"}
    assert result.pictures == result.grids["fixed"]
    for kind, prompts in (("fixed", result.fixed), ("drifted", result.drifted), ("general", result.general)):
        with Image.open(io.BytesIO(shop.store.read(result.grids[kind]))) as grid:
            assert grid.height > 128 * len(prompts)
        assert len(light(shop.store.read(result.grids[kind]))) < len(shop.store.read(result.grids[kind])) / 2
    experiment = mlflow_home.get_experiment_by_name("shown-evaluate")
    assert experiment is not None
    (run,) = mlflow_home.search_runs([experiment.experiment_id])
    metrics = run.data.metrics
    assert metrics["challenger_prompt_fidelity"] > metrics["champion_prompt_fidelity"]
    assert {"challenger_general_forgetting", "champion_drifted_style_fidelity"} <= set(metrics)
    assert run.data.params["prompts"] == "embedded-1"
    scores = json.loads(Path(mlflow_home.download_artifacts(run.info.run_id, "scores.json")).read_text())
    assert scores["scoring"]["scale"] == 2.5


def test_a_model_is_calibrated_against_itself_on_other_seeds(shop: Shop, tmp_path: Path) -> None:
    release = shop.crown("half", tmp_path / "half")
    shop.crown("good", tmp_path / "good")

    def run(request: CalibrateRequest, painter: Painter) -> tuple[Scores, Scores]:
        return calibration_scores(installed(shop.store), shop.model, request, shop.clip, lambda *_: painter)

    champion, older = shop.painter(), shop.painter()
    first, second = run(CalibrateRequest(evaluation=SPEC), champion)
    run(CalibrateRequest(evaluation=SPEC, release=release), older)
    assert {kind for kind, _, _ in champion.painted} == {"good", "base"}
    assert {kind for kind, _, _ in older.painted} == {"half"}, "the bare base was painted before"
    assert {seed for _, _, seed in champion.painted} == {1, 2, 3, 4}
    assert first != second
    assert decide(first, second, GATE).verdict == "keep"
