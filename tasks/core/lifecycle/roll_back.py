"""Back to an older generation, or to the bare base: one more entry of the ledger."""

from collections.abc import Sequence
from contextlib import suppress

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import RollBackRequest
from tasks.core.data.dataset import newest_version
from tasks.core.errors import (
    DocumentInvalid,
    DyeworksError,
    ObjectMissing,
    PromotionLost,
    ReleaseCorrupt,
    ReleaseWithdrawn,
)
from tasks.core.installation import Installation
from tasks.core.registry import ledger
from tasks.core.registry.ledger import Entry
from tasks.core.registry.releases import made_from, verify_release
from tasks.core.registry.withdrawals import find_withdrawal, withdrawals
from tasks.core.store import Store
from tasks.core.store.probe import require_conditions

UNREADABLE = (ObjectMissing, ReleaseCorrupt, DocumentInvalid)  # a release that is not whole


class NothingToRollBack(DyeworksError):
    """The ledger has no older generation like the one asked for."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"the ledger has no generation {generation or 'before the champion'} to go back to")
        self.generation = generation


def roll_back(installation: Installation, model: ModelConfig, request: RollBackRequest) -> Entry:
    """Append an entry that names an older generation; the newest entry as it is where that is done already.

    Started again after a crash, a request that says neither where to nor what it leaves is not known to be undone: it
    rolls nothing back.

    What it names was read back before: nothing is entered that could not be served.

    Raises:
        NothingToRollBack: there is no such generation.
        ReleaseWithdrawn: the generation named is of a release that was taken back.
        ObjectMissing, ReleaseCorrupt: the release of the generation named is not whole.
        PromotionLost: another run took the next generation in between.
    """
    require_conditions(installation.store)
    entries = ledger.history(installation.store, model.name)
    if not entries:
        raise NothingToRollBack(request.generation)
    current = entries[-1]
    again = request.attempt > 1 and not (request.leaves or request.generation)
    if again or (request.leaves and current.generation != request.leaves):
        return current
    chosen = (
        _named(entries, request.generation) if request.generation else previous(installation.store, model.name, entries)
    )
    if chosen is None:
        raise NothingToRollBack(request.generation)
    if request.generation and chosen.release:
        verify_release(installation.store, model.name, chosen.release)
    if request.generation and current.restores == profile_of(chosen):
        return current
    entry = back_to(chosen, entries, newest_version(installation.store, model.dataset), (request.actor, request.reason))
    return ledger.append(installation.store, model.name, entry)


def repeatable(installation: Installation, model: ModelConfig, request: RollBackRequest) -> RollBackRequest:
    """The request as it can be tried twice: one that names nothing leaves the generation that is served now."""
    current = ledger.champion(installation.store, model.name)
    if not current or request.leaves or request.generation or request.attempt > 1:
        return request
    return request.model_copy(update={"leaves": current.generation})


def _named(entries: Sequence[Entry], generation: int) -> Entry | None:
    return next((e for e in entries[:-1] if e.generation == generation), None)


def previous(store: Store, model: str, entries: Sequence[Entry]) -> Entry | None:
    """The newest generation before the one that is served, or restored, that can be served in its place.

    Neither one that was withdrawn, nor one that a roll-back left, nor another of the same LoRA, nor one that is not
    whole. They are read newest first, as far as needed.
    """
    taken = {withdrawal.release for withdrawal in withdrawals(store, model)}
    bad = taken | {entries[-1].release} | {e.abandons for e in entries if ledger.is_left(entries, e.abandons)}
    trainings = {_training(store, model, release) for release in bad} - {""}
    older = [e for e in entries if e.generation < ledger.profile_generation(entries)]
    good = (e for e in reversed(older) if e.release not in bad)
    return next((e for e in good if _servable(store, model, e.release, trainings)), None)


def _training(store: Store, model: str, release: str) -> str:
    """The training of a release; empty where nothing tells it any more."""
    with suppress(*UNREADABLE):
        return made_from(store, model, release)
    return ""


def _servable(store: Store, model: str, release: str, without: set[str]) -> bool:
    """Whether a release is whole and of none of these trainings; the bare base always is."""
    try:
        return not release or (
            made_from(store, model, release) not in without and bool(verify_release(store, model, release))
        )
    except (*UNREADABLE, ReleaseWithdrawn):
        return False


def back_to(chosen: Entry | None, entries: Sequence[Entry], version: str, word: tuple[str, str]) -> Entry:
    """The entry by which somebody, for a reason, goes back to a generation; None: to the bare base."""
    current, now = entries[-1], clock.now()
    release = chosen.release if chosen else ""
    return Entry(
        generation=current.generation + 1,
        action="roll_back",
        release=release,
        dataset_version=version,
        evaluation=chosen.evaluation if chosen else "",
        restores=profile_of(chosen) if chosen else 0,
        abandons=current.release if current.release != release else "",
        traffic_from=chosen.traffic_from if chosen else now,
        actor=word[0],
        reason=word[1],
        time=now,
    )


def profile_of(entry: Entry) -> int:
    """The generation that an entry serves: its own, or that which it restores."""
    return entry.restores or entry.generation


def leave_withdrawn(installation: Installation, model: ModelConfig) -> Entry | None:
    """While the champion is a release that was withdrawn, roll back; the new entry, None where there was no need."""
    done = None
    while (entries := ledger.history(installation.store, model.name)) and (
        taken := find_withdrawal(installation.store, model.name, entries[-1].release)
    ):
        word = (taken.actor, f"release {taken.release} was withdrawn: {taken.reason}")
        chosen = previous(installation.store, model.name, entries)
        entry = back_to(chosen, entries, newest_version(installation.store, model.dataset), word)
        with suppress(PromotionLost):
            done = ledger.append(installation.store, model.name, entry)
    return done
