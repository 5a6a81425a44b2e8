"""The cost of a retrain: the device time of its training and its evaluations, each hour counted once."""

from collections.abc import Sequence

from tasks.core.registry.results import TrainResult, checkpoint_folder, evaluations_of, find_result
from tasks.core.retraining.decisions import RetrainDecision
from tasks.core.store import Store


def costs_of(store: Store, model: str, training: str, history: Sequence[RetrainDecision]) -> dict[str, float]:
    """GPU-hours of this training and its evaluations by key, minus those of earlier outcomes.

    An interrupted training counts up to its newest checkpoint.
    """
    trained = find_result(store, model, TrainResult, training)
    seconds = {training: trained.seconds if trained else _interrupted(store, model, training)}
    seconds |= {result.key: result.seconds for result in evaluations_of(store, model, training)}
    new = {key: value / 3600 - _reported(key, history) for key, value in seconds.items()}
    return {key: round(hours, 6) for key, hours in new.items() if hours > 1e-6}


def _interrupted(store: Store, model: str, training: str) -> float:
    from tasks.core.training.checkpoints import device_seconds  # noqa: PLC0415  late: it imports torch

    return device_seconds(store, checkpoint_folder(model, training))


def _reported(key: str, history: Sequence[RetrainDecision]) -> float:
    return sum(decision.costs.get(key, 0.0) for decision in history)
