"""What the models of an installation need: of their champions, of what can be rolled back to, of runs in flight."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.core.data.dataset import newest_version
from tasks.core.data.pins import dataset_pins
from tasks.core.errors import ResultMissing
from tasks.core.monitoring.reference import generation_in_force
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import Entry, history, is_abandoned
from tasks.core.registry.results import EvaluationResult, TrainResult, get_result
from tasks.core.registry.withdrawals import withdrawals
from tasks.core.retraining.decisions import open_retrain, read_decisions
from tasks.core.store import Store


@dataclass(frozen=True)
class Needs:
    """What one model needs, by name; `known` are all releases of its ledger, `busy`: a retrain is in flight."""

    generations: frozenset[int]
    releases: frozenset[str]
    known: frozenset[str]
    trainings: frozenset[str]
    evaluations: frozenset[str]
    versions: frozenset[tuple[str, str]]  # of datasets
    busy: bool


def needs_of(store: Store, model: str, keep: int) -> Needs:
    """The needs of a model that can be rolled back to its `keep` newest releases."""
    entries = history(store, model)
    releases = _releases(store, model, entries, keep)
    active = {generation_in_force(store, model, entries)} if entries else set[int]()
    needed = [entry for entry in entries if entry.release in releases or entry.generation in active]
    trainings = [*_newest_trainings(store, model)]
    return Needs(
        generations=frozenset(number for entry in needed for number in (entry.generation, entry.restores)),
        releases=frozenset(releases),
        known=frozenset(entry.release for entry in entries),
        trainings=frozenset([*(entry.training for entry in needed), *(each.key for each in trainings)]),
        evaluations=frozenset([*(entry.evaluation for entry in needed), *_newest_evaluation(store, model)]),
        versions=frozenset(
            [(entry.dataset, entry.dataset_version) for entry in needed]
            + [(each.dataset, each.dataset_version) for each in trainings]
            + [(entry.dataset, newest_version(store, entry.dataset)) for entry in entries[-1:]]
            + [(pin.dataset, pin.version) for pin in dataset_pins(store, model)]
        ),
        busy=open_retrain(read_decisions(store, model)) is not None,
    )


def _releases(store: Store, model: str, entries: Sequence[Entry], keep: int) -> set[str]:
    """What is served, was served before, and the newest that a roll-back may choose."""
    withdrawn = {withdrawal.release for withdrawal in withdrawals(store, model)}
    newest = dict.fromkeys(entry.release for entry in reversed(entries))
    good = [release for release in newest if release not in withdrawn and not is_abandoned(entries, release)]
    channel, _ = read_channel(store, model)
    served = {channel.release, channel.previous} if channel else set[str]()
    return ({*good[:keep], *served, *(entry.release for entry in entries[-1:])} - withdrawn) | {""}


def _newest_trainings(store: Store, model: str) -> Iterator[TrainResult]:
    """The newest training, and that of the newest evaluation."""
    try:
        newest = get_result(store, model, TrainResult)
        yield newest
        if (training := get_result(store, model, EvaluationResult).training) != newest.key:
            yield get_result(store, model, TrainResult, training)
    except ResultMissing:
        return


def _newest_evaluation(store: Store, model: str) -> Iterator[str]:
    try:
        yield get_result(store, model, EvaluationResult).key
    except ResultMissing:
        return
