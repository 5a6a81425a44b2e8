"""Evaluation and promotion in a retrain, and the record of its outcome, without a Prefect server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
import torch
from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import disable_run_logger
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running

from flows.retrain_model import retrain_model
from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks import outcomes, retrain
from tasks.core.config.base import Spec
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec, PolicySpec
from tasks.core.config.requests import EvaluateRequest, PromoteRequest, RetrainRequest, TrainRequest, WithdrawRequest
from tasks.core.data.ingest import ingest
from tasks.core.errors import DyeworksError, StageCancelled, StageFailed
from tasks.core.evaluation.plan import plan_evaluation
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.registry.ledger import history
from tasks.core.registry.results import PromotionResult, checkpoint_folder
from tasks.core.retraining import policy
from tasks.core.retraining.decisions import make_decision, open_retrain, read_decisions, record_decision
from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import Checkpoint, save_checkpoint
from tasks.core.training.plan import plan_training
from tasks.outcomes import record_failure
from tests.adire import installed
from tests.candidates import evaluated, measured, trained


@pytest.fixture(autouse=True)
def in_force(applied: ModelConfig) -> None:
    """The model is applied in the store."""


@pytest.fixture
def failure() -> State[object]:
    return Failed(message="stage train-lora did not complete")


def started(store: FolderStore, model: ModelConfig, about: str) -> str:
    """The id of a new decision to retrain."""
    return record_decision(store, model.name, make_decision("drift", datetime.now(UTC), ("retrain", about), about)).id


def fail(state: State[object], decision: str) -> None:
    run = FlowRun(flow_id=uuid4(), parameters={"spec": {"cause": "drift", "decision": decision}})
    record_failure(cast(Flow[..., object], retrain_model), run, state)


def test_failure_is_recorded_once_with_its_costs(
    folder: FolderStore, model: ModelConfig, tmp_path: Path, failure: State[object]
) -> None:
    draw_uploads(tmp_path / "store/uploads" / model.dataset, 4, FIRST_TASTE, seed=1)
    ingest(folder, model.dataset, IngestSpec())
    key = plan_training(installed(folder), model, TrainRequest()).key
    save_checkpoint(
        folder, checkpoint_folder("adire", key), Checkpoint(step=50, seconds=1800), {"weight": torch.zeros(2)}
    )
    first = started(folder, model, "first")
    fail(failure, first)
    fail(failure, first)
    second = started(folder, model, "second")
    fail(failure, second)
    fail(failure, "unknown")
    ends = [d for d in read_decisions(folder, model.name) if d.cause == "outcome"]
    assert [(d.outcome, d.outcome_of, d.gpu_hours) for d in ends] == [("failed", first, 0.5), ("failed", second, 0)]
    assert ends[0].costs == {key: 0.5}
    assert ends[0].reason == "stage train-lora did not complete"


def test_failure_without_a_dataset_is_recorded(folder: FolderStore, model: ModelConfig, failure: State[object]) -> None:
    fail(failure, started(folder, model, "first"))
    _, end = read_decisions(folder, model.name)
    assert (end.outcome, end.gpu_hours) == ("failed", 0.0)


HOUR = 60.0


def run_in(state: State[object], minutes: float) -> FlowRun:
    """A run that has been in this state for some time."""
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    return FlowRun(flow_id=uuid4(), parameters={}, state=state.model_copy(update={"timestamp": since}))


@pytest.mark.parametrize(
    ("runs", "outcome"),
    [
        ([(Cancelled(message="by ada"), HOUR)], "cancelled"),
        ([(Cancelled(), HOUR), (Crashed(), HOUR)], "cancelled"),
        ([(Failed(message="no room"), HOUR)], "failed"),
        ([(Crashed(), 60), (Crashed(), 90)], "failed"),
        ([(Crashed(), 1)], None),
        ([(Cancelled(), HOUR), (Running(), HOUR)], None),
        ([(Running(), HOUR), (Crashed(), HOUR)], None),
        ([(Cancelling(), HOUR)], None),
        ([(Completed(), HOUR)], None),
    ],
)
def test_missing_outcome_of_a_run_is_recorded(runs: list[tuple[State[object], float]], outcome: str | None) -> None:
    found = outcomes._ended([run_in(state, minutes) for state, minutes in runs])
    assert (found[0] if found else None) == outcome


def test_cancelled_retrain_starts_the_cooldown(folder: FolderStore, model: ModelConfig) -> None:
    now = datetime.now(UTC)
    retrain_ = make_decision("drift", now, ("retrain", "moons"), "r1")
    record_decision(folder, model.name, retrain_)
    stopped = StageCancelled("train-lora", "run")
    state = outcomes.record_cancellation(RetrainRequest(cause="drift", decision=retrain_.id), stopped)
    assert state.is_cancelled()
    history = tuple(read_decisions(folder, model.name))
    assert (history[-1].outcome, history[-1].outcome_of) == ("cancelled", retrain_.id)
    situation = policy.Situation(now=now + timedelta(hours=1), history=history, ledger=(), dataset_version="v1")
    assert open_retrain(history) is None
    action, reason = policy.on_drift("retrain", situation, PolicySpec(hits=1, of=1))
    assert (action, reason.split(" less")[0]) == ("declined", "cool-down: a retrain was cancelled")


class Stages:
    """Runs the stages in this process; hooks change the store before or during the first evaluation."""

    def __init__(
        self, store: FolderStore, model: ModelConfig, meanwhile: Callable[[], object], early: bool = False
    ) -> None:
        self.store, self.model, self.meanwhile, self.early = store, model, [meanwhile], early
        self.names: list[str] = []

    def run(self, name: str, spec: Spec, key: str) -> None:
        self.names.append(name)
        try:
            if isinstance(spec, PromoteRequest):
                promote(installed(self.store), self.model, spec)
            elif isinstance(spec, EvaluateRequest):
                self.evaluate(spec)
        except DyeworksError as error:
            raise StageFailed(name, "run", str(error)) from error

    def evaluate(self, spec: EvaluateRequest) -> None:
        if self.early and self.meanwhile:
            self.meanwhile.pop()()
        plan = plan_evaluation(installed(self.store), self.model, spec)
        measured(self.store, "mine", len(history(self.store, self.model.name)), name=plan.key)
        while self.meanwhile:
            self.meanwhile.pop()()


def competing(
    store: FolderStore,
    model: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[], object],
    early: bool = False,
) -> tuple[Stages, PromotionResult]:
    trained(store, "mine")
    stages = Stages(store, model, meanwhile, early)
    monkeypatch.setattr(retrain, "run_stage", stages.run)
    with disable_run_logger():
        request = RetrainRequest(decision=started(store, model, "mine"))
        return stages, retrain.evaluate_and_promote(request, TrainRequest(), "mine")


def crowned(store: FolderStore, model: ModelConfig) -> None:
    promote(installed(store), model, PromoteRequest(evaluation=evaluated(store, "other", 0)))


def test_challenger_is_evaluated_against_a_champion_promoted_meanwhile(
    folder: FolderStore, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, result = competing(folder, model, monkeypatch, lambda: crowned(folder, model))
    assert stages.names == ["evaluate-challenger", "promote-champion"] * 2
    assert (result.decision.verdict, result.generation) == ("promote", 2)


def test_challenger_is_evaluated_against_the_champion_at_the_start(
    folder: FolderStore, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, result = competing(folder, model, monkeypatch, lambda: crowned(folder, model), early=True)
    assert stages.names == ["evaluate-challenger", "evaluate-challenger", "promote-champion"]
    assert (result.decision.verdict, result.generation) == ("promote", 2)


def test_irreproducible_evaluation_fails_the_retrain(
    folder: FolderStore, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored_by_another() -> None:
        monkeypatch.setattr("tasks.core.evaluation.plan.scorer_fingerprint", lambda scorer: "another")

    with pytest.raises(StageFailed, match=r"evaluate-challenger was planned as .* scorer another"):
        competing(folder, model, monkeypatch, scored_by_another, early=True)


def test_failed_stage_is_not_retried_without_a_new_champion(
    folder: FolderStore, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StageFailed, match="train"):
        competing(folder, model, monkeypatch, lambda: folder.delete("models/adire/results/train/mine.json"))


def test_withdrawn_training_is_rejected_without_an_evaluation(
    folder: FolderStore, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "mine", 0)))
    withdraw(installed(folder), model, WithdrawRequest(release=first.release, reason="a picture was removed"))
    stages, result = competing(folder, model, monkeypatch, lambda: None)
    assert stages.names == []
    assert (result.decision.verdict, result.generation) == ("keep", 0)
    assert "a picture was removed" in result.decision.reason


def test_a_run_of_a_later_version_has_an_outcome(
    folder: FolderStore, model: ModelConfig, failure: State[object]
) -> None:
    first = started(folder, model, "first")
    run = FlowRun(flow_id=uuid4(), parameters={"spec": {"decision": first, "added": "by a later version"}})
    record_failure(cast(Flow[..., object], retrain_model), run, failure)
    assert [d.outcome_of for d in read_decisions(folder, model.name)] == ["", first]
