"""Evaluations from plan to result: models of known faults, painted pictures, the real scorer, store and MLflow."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from tasks.core.config.presets import EvaluationSpec
from tasks.core.config.prompts import load_prompts
from tasks.core.config.requests import CalibrateRequest, WithdrawRequest
from tasks.core.errors import PlanMismatch, ReleaseWithdrawn, ResultMissing, SettingError
from tasks.core.evaluation.calibration import calibration_scores
from tasks.core.gate.decide import decide
from tasks.core.gate.statistics import MEASURES, Scores
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.models.images import light
from tasks.core.registry import ledger
from tasks.core.registry.results import EvaluationResult, get_result
from tasks.core.store import delete_prefix
from tests.adire import NAME, adire, installed
from tests.evaluations import DRIFTED, GATE, SPEC, Shop
from tests.painter import Cut, Painter, all_jobs


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


def test_every_picture_is_counted_to_the_last(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    shop.train("forgot")
    for name in ("good", "forgot"):  # against the bare base, then against a champion
        plan, painter, seen = shop.plan(name), shop.painter(), list[tuple[int, int]]()
        result = shop.evaluate(plan, painter, lambda *counts, seen=seen: seen.append(counts))
        assert not result.looks
        assert [count for count, _ in seen] == sorted({count for count, _ in seen})
        assert {of for _, of in seen} == {plan.pictures}
        assert seen[-1][0] == plan.pictures
        assert result.render_seconds == 2.0 * len(painter.painted), "those read from the store took none"
        shop.crown(name, tmp_path / name)


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
    delete_prefix(shop.store, "models/adire/checkpoints/good")
    with pytest.raises(ResultMissing, match="'train' under key good"):
        shop.evaluate(plan, painter)
    assert painter.painted == []


def test_grids_and_figures_are_kept_for_people_and_machines(shop: Shop, mlflow_home: MlflowClient) -> None:
    shop.model = adire(name="shown", datasets=["adire"])
    shop.train("good")
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
