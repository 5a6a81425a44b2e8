"""From an evaluation to the ledger: promoted once, cut off anywhere and done again, rolled back."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.data.dataset import ingest
from tasks.core.errors import PromotionLost, SettingError
from tasks.core.evaluation.plan import won_with
from tasks.core.gate import Scores
from tasks.core.promotion import NothingToRollBack, promote, roll_back
from tasks.core.registry.ledger import champion, history
from tasks.core.registry.releases import WEIGHTS
from tasks.core.requests import PromoteRequest, RollBackRequest
from tasks.core.results import EvaluationResult, TrainResult, promotion_key, save_result
from tasks.core.settings import Settings
from tasks.core.specs import EvaluationSpec, IngestSpec
from tasks.core.store import FolderStore
from tasks.core.training.spec import TrainSpec

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PROMPTS = tuple(f"prompt {i}" for i in range(12))


def scores(fidelity: float) -> Scores:
    rng = np.random.default_rng(0)
    values = {p: tuple(float(v) for v in rng.normal(fidelity, 0.01, 2)) for p in PROMPTS}
    plain: dict[str, tuple[float, ...]] = dict.fromkeys(PROMPTS, (0.5,))
    return {"prompt_fidelity": values, "style_fidelity": values, "diversity": plain, "render_seconds": plain}


def trained(store: FolderStore, key: str) -> None:
    adapter = f"checkpoints/{key}/adapter/"
    store.write(adapter + WEIGHTS, key.encode())
    result = TrainResult(
        key=key,
        finished=NOW,
        dataset="cloth",
        dataset_version="v1",
        spec=TrainSpec(),
        mlflow_run="run",
        adapter=adapter,
        loss=0.1,
        resumed_from=0,
        steps_per_second=1.0,
    )
    save_result(store, result)


def evaluated(store: FolderStore, training: str, against: int, better: float = 0.2) -> str:
    """An evaluation of a training against a generation; its key."""
    key = f"evaluation-{training}-{against}"
    trained(store, training)
    result = EvaluationResult(
        key=key,
        finished=NOW,
        training=training,
        champion_generation=against,
        spec=EvaluationSpec(),
        fixed=PROMPTS,
        drifted=(),
        challenger=scores(0.8),
        champion=scores(0.8 - better),
        traffic_from=None,
        pictures="",
        scorer="embedded",
    )
    save_result(store, result)
    return key


def test_what_passes_the_gate_is_the_next_generation_once(folder: FolderStore, settings: Settings) -> None:
    request = PromoteRequest(evaluation=evaluated(folder, "a", 0))
    first, again = promote(folder, settings, request), promote(folder, settings, request)
    assert (first.decision.verdict, first.generation) == ("promote", 1)
    assert again == first
    assert [e.generation for e in history(folder, settings.model)] == [1]


def test_what_fails_the_gate_changes_nothing(folder: FolderStore, settings: Settings) -> None:
    result = promote(folder, settings, PromoteRequest(evaluation=evaluated(folder, "a", 0, better=0.0)))
    assert (result.decision.verdict, result.generation, result.release) == ("keep", 0, "")
    assert champion(folder, settings.model) is None


def test_cut_off_between_the_entry_and_the_result_it_is_the_same_generation(
    folder: FolderStore, settings: Settings
) -> None:
    request = PromoteRequest(evaluation=evaluated(folder, "a", 0))
    first = promote(folder, settings, request)
    folder.delete(f"results/promote/{promotion_key(request, request.evaluation)}.json")
    again = promote(folder, settings, request)
    assert (again.generation, again.release) == (1, first.release)
    assert len(history(folder, settings.model)) == 1


def test_a_retrain_cut_off_after_its_promotion_finds_what_it_won_with(folder: FolderStore, settings: Settings) -> None:
    assert won_with(folder, settings, "a") == ""
    evaluation = evaluated(folder, "a", 0)
    promote(folder, settings, PromoteRequest(evaluation=evaluation))
    assert won_with(folder, settings, "a") == evaluation
    assert won_with(folder, settings, "b") == ""
    promote(folder, settings, PromoteRequest(evaluation=evaluated(folder, "b", 1)))
    assert won_with(folder, settings, "a") == "", "it is the champion no more"


def test_against_another_champion_than_the_one_it_was_compared_with_it_is_lost(
    folder: FolderStore, settings: Settings
) -> None:
    late = evaluated(folder, "b", 0)
    promote(folder, settings, PromoteRequest(evaluation=evaluated(folder, "a", 0)))
    with pytest.raises(PromotionLost):
        promote(folder, settings, PromoteRequest(evaluation=late))
    assert len(history(folder, settings.model)) == 1


def test_a_person_overrules_the_gate_with_a_reason(folder: FolderStore, settings: Settings) -> None:
    evaluation = evaluated(folder, "a", 0, better=-0.2)
    with pytest.raises(SettingError, match="needs a reason"):
        promote(folder, settings, PromoteRequest(evaluation=evaluation, actor="ada"))
    request = PromoteRequest(evaluation=evaluation, actor="ada", reason="the show opens tonight")
    assert promote(folder, settings, request).generation == 1
    entry = champion(folder, settings.model)
    assert entry is not None
    assert (entry.actor, entry.reason) == ("ada", "the show opens tonight")


def test_a_roll_back_is_one_more_generation(folder: FolderStore, settings: Settings, tmp_path: Path) -> None:
    draw_uploads(tmp_path / "store/uploads" / settings.dataset, 2, FIRST_TASTE, seed=1)
    ingest(folder, settings.dataset, IngestSpec())
    with pytest.raises(NothingToRollBack):
        roll_back(folder, settings, RollBackRequest())
    for against, training in enumerate("ab"):
        promote(folder, settings, PromoteRequest(evaluation=evaluated(folder, training, against)))
    entry = roll_back(folder, settings, RollBackRequest(actor="ada", reason="too blue"))
    first, second, third = history(folder, settings.model)
    assert (entry, third.action, third.restores) == (third, "roll_back", 1)
    assert third.release == first.release != second.release
    assert won_with(folder, settings, "a") == "", "a roll-back is no promotion"
