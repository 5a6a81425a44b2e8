"""From an evaluation to the ledger: promoted once, repeatable after a crash, rejected after a roll-back."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import GateSpec
from tasks.core.config.requests import EvaluateRequest, PromoteRequest, RollBackRequest, WithdrawRequest
from tasks.core.errors import PlanMismatch, PromotionLost, ReleaseCorrupt, ReleaseWithdrawn, SettingError
from tasks.core.evaluation.plan import plan_evaluation, winning_evaluation
from tasks.core.gate.evidence import ExtraSeeds
from tasks.core.gate.statistics import Values
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.ledger import champion, history
from tasks.core.registry.releases import fetch_release, prefix
from tasks.core.registry.results import EvaluationResult, get_result, promotion_key, save_result
from tasks.core.store import FolderStore
from tasks.core.store.documents import digest
from tests.adire import NAME, adire, installed
from tests.candidates import PROMPTS, evaluated, measured


def generations(store: FolderStore, model: ModelConfig, *trainings: str) -> None:
    """Promote these trainings in turn."""
    for against, training in enumerate(trainings):
        assert promote(
            installed(store), model, PromoteRequest(evaluation=evaluated(store, training, against))
        ).generation


def test_a_passing_challenger_is_promoted_once(folder: FolderStore, model: ModelConfig) -> None:
    request = PromoteRequest(evaluation=evaluated(folder, "a", 0))
    first, again = promote(installed(folder), model, request), promote(installed(folder), model, request)
    assert (first.decision.verdict, first.generation) == ("promote", 1)
    assert again == first
    assert [e.generation for e in history(folder, model.name)] == [1]


def test_a_failing_challenger_changes_nothing(folder: FolderStore, model: ModelConfig) -> None:
    result = promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "a", 0, better=0.0)))
    assert (result.decision.verdict, result.generation, result.release) == ("keep", 0, "")
    assert champion(folder, model.name) is None


def unsure(store: FolderStore) -> str:
    """The key of an evaluation against generation 1 whose guard of diversity is undecided."""
    key = evaluated(store, "b", 1)
    found = get_result(store, NAME, EvaluationResult, key)
    rng = np.random.default_rng(1)
    wild: Values = {p: (float(v),) for p, v in zip(PROMPTS, rng.normal(0.45, 0.1, len(PROMPTS)), strict=True)}
    save_result(store, found.model_copy(update={"challenger": found.challenger | {"diversity": wild}}))
    return key


def test_an_undecided_guard_keeps_the_champion(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a")
    result = promote(installed(folder), model, PromoteRequest(evaluation=unsure(folder), gate=GateSpec()))
    assert (result.decision.verdict, result.generation) == ("inconclusive", 0)
    assert len(history(folder, model.name)) == 1


def test_a_further_look_may_promote_after_all(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a")
    key = unsure(folder)
    found = get_result(folder, NAME, EvaluationResult, key)
    better: Values = dict.fromkeys(PROMPTS, (0.55,) * 50)
    look = ExtraSeeds(check="diversity kept", challenger=better, champion=dict.fromkeys(PROMPTS, (0.5,) * 50))
    save_result(folder, found.model_copy(update={"looks": (look,)}))
    assert promote(installed(folder), model, PromoteRequest(evaluation=key, gate=GateSpec())).generation == 2


def test_a_promotion_interrupted_after_its_entry_is_the_same_generation(
    folder: FolderStore, model: ModelConfig
) -> None:
    request = PromoteRequest(evaluation=evaluated(folder, "a", 0))
    first = promote(installed(folder), model, request)
    promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "b", 1)))
    folder.delete(f"models/adire/results/promote/{first.key}.json")
    again = promote(installed(folder), model, request)
    assert (again.generation, again.release) == (1, first.release)
    assert len(history(folder, model.name)) == 2


def test_an_interrupted_retrain_finds_its_promotion(folder: FolderStore, model: ModelConfig) -> None:
    assert winning_evaluation(installed(folder), model, "a") == ""
    evaluation = evaluated(folder, "a", 0)
    promote(installed(folder), model, PromoteRequest(evaluation=evaluation))
    assert winning_evaluation(installed(folder), model, "a") == evaluation
    assert winning_evaluation(installed(folder), model, "b") == ""
    promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "b", 1)))
    assert winning_evaluation(installed(folder), model, "a") == "", "it is no longer the champion"


def test_a_promotion_is_lost_if_the_champion_changed_since_the_evaluation(
    folder: FolderStore, model: ModelConfig
) -> None:
    late = evaluated(folder, "b", 0)
    generations(folder, model, "a")
    before = list(folder.list("models/"))
    with pytest.raises(PromotionLost, match="evaluate against the new champion"):
        promote(installed(folder), model, PromoteRequest(evaluation=late))
    assert len(history(folder, model.name)) == 1
    assert list(folder.list("models/")) == before, "no release is left"


def test_a_person_overrules_the_gate_with_a_reason(folder: FolderStore, model: ModelConfig) -> None:
    evaluation = evaluated(folder, "a", 0, better=-0.2)
    with pytest.raises(SettingError, match="needs a reason"):
        promote(installed(folder), model, PromoteRequest(evaluation=evaluation, actor="ada"))
    request = PromoteRequest(evaluation=evaluation, actor="ada", reason="the show opens tonight")
    assert promote(installed(folder), model, request).generation == 1
    entry = champion(folder, model.name)
    assert entry is not None
    assert (entry.actor, entry.reason) == ("ada", "the show opens tonight")


def test_a_damaged_release_is_written_again(folder: FolderStore, model: ModelConfig, tmp_path: Path) -> None:
    request = PromoteRequest(evaluation=evaluated(folder, "a", 0))
    first = promote(installed(folder), model, request)
    release = prefix(model.name, first.release)
    folder.write(release + WEIGHTS, b"tampered")
    for key in (
        "models/adire/promotions/000001.json",
        f"models/adire/results/promote/{first.key}.json",
    ):  # as if killed before
        folder.delete(key)
    assert promote(installed(folder), model, request).release == first.release
    fetch_release(folder, model.name, first.release, tmp_path / "fetched")


class Corrupting(FolderStore):
    """A store that stores other bytes than it was given."""

    def put_file(self, key: str, source: Path | BinaryIO) -> None:
        self.write(key, b"something else")


def test_a_store_that_corrupts_files_gets_no_entry(model: ModelConfig, tmp_path: Path) -> None:
    store = Corrupting(tmp_path / "store")
    with pytest.raises(ReleaseCorrupt, match=r"README\.md"):
        promote(installed(store), model, PromoteRequest(evaluation=evaluated(store, "a", 0)))
    assert history(store, model.name) == []
    assert not [key for key in store.list("models/") if key.endswith("manifest.json")]


def test_a_rolled_back_lora_is_not_promoted_automatically(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a", "b")
    roll_back(installed(folder), model, RollBackRequest(reason="too blue"))
    again = promote(installed(folder), model, PromoteRequest(evaluation=measured(folder, "b", 3)))
    assert (again.decision.verdict, again.generation) == ("keep", 0)
    assert "was rolled back by generation 3" in again.decision.reason
    assert again.decision.checks[-1].name == "refused"
    assert all(check.passed for check in again.decision.checks[:-1]), "its figures passed"
    assert len(history(folder, model.name)) == 3


def test_a_rolled_back_lora_with_another_card_is_recognised(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a", "b")
    roll_back(installed(folder), model, RollBackRequest(reason="too blue"))
    folder.write("models/adire/checkpoints/b/adapter/card.md", b"# another card")
    assert not promote(installed(folder), model, PromoteRequest(evaluation=measured(folder, "b", 3))).generation


def test_a_person_can_promote_a_rolled_back_lora_again(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a", "b")
    roll_back(installed(folder), model, RollBackRequest(reason="too blue"))
    person = PromoteRequest(evaluation=measured(folder, "b", 3), actor="ada", reason="blue is right")
    assert promote(installed(folder), model, person).generation == 4
    promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "c", 4)))
    again = PromoteRequest(evaluation=measured(folder, "b", 5))
    assert promote(installed(folder), model, again).generation == 6, "no roll-back has abandoned it since"


def test_an_evaluation_against_a_restored_release_is_valid(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a", "b")
    roll_back(installed(folder), model, RollBackRequest())
    assert promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "c", 1))).generation == 4


def test_after_a_roll_back_the_same_training_is_evaluated_again(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a")
    before = plan_evaluation(installed(folder), model, EvaluateRequest(training="b")).key
    generations_after = PromoteRequest(evaluation=evaluated(folder, "b", 1))
    promote(installed(folder), model, generations_after)
    roll_back(installed(folder), model, RollBackRequest())
    plan = plan_evaluation(installed(folder), model, EvaluateRequest(training="b"))
    assert plan.key != before, "the old key's promotion is history: a retrain must not report it as its own"
    assert plan.champion_generation == 3


def test_a_withdrawn_lora_is_never_promoted(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a", "b")
    withdraw(installed(folder), model, WithdrawRequest(generation=2, actor="ada", reason="a picture was removed"))
    evaluation = measured(folder, "b", 3)
    assert (
        "was withdrawn by ada"
        in promote(installed(folder), model, PromoteRequest(evaluation=evaluation)).decision.reason
    )
    person = PromoteRequest(evaluation=evaluation, actor="bob", reason="I like it")
    with pytest.raises(ReleaseWithdrawn, match="a picture was removed"):
        promote(installed(folder), model, person)
    assert len(history(folder, model.name)) == 3


def test_a_promotion_must_match_its_parents_plan(folder: FolderStore, model: ModelConfig) -> None:
    first, newest = evaluated(folder, "a", 0), evaluated(folder, "b", 0)
    asked = PromoteRequest(evaluation=first, gate=model.preset.gate)
    planned = asked.model_copy(update={"key": promotion_key(asked, model.preset.gate, first)})
    stricter = model.preset.gate.model_copy(update={"floor": 0.9})
    for sent, what in (
        (planned.model_copy(update={"evaluation": newest}), f"evaluation {newest}, gate "),
        (planned.model_copy(update={"gate": stricter}), f"evaluation {first}, gate {digest(stricter)}"),
    ):
        with pytest.raises(PlanMismatch) as caught:
            promote(installed(folder), model, sent)
        assert str(caught.value).startswith(f"promote-champion was planned as {planned.key}, but this machine resolves")
        assert what in str(caught.value)
    assert history(folder, model.name) == []
    assert promote(installed(folder), adire(preset={"gate": {"floor": 0.9}}), planned).key == planned.key
