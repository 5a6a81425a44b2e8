"""Roll-back to an older generation or the bare base, as a new ledger entry."""

from collections.abc import Sequence
from contextlib import suppress

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import RollBackRequest
from tasks.core.data.pins import training_version
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
from tasks.core.registry.releases import verify_release
from tasks.core.registry.withdrawals import find_withdrawal, withdrawals
from tasks.core.store import Store
from tasks.core.store.conditional_writes import require_conditions

UNREADABLE = (ObjectMissing, ReleaseCorrupt, DocumentInvalid)  # a release that is incomplete or damaged


class NothingToRollBack(DyeworksError):
    """The ledger has no such older generation."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"the ledger has no generation {generation or 'before the champion'} to roll back to")
        self.generation = generation


def roll_back(installation: Installation, model: ModelConfig, request: RollBackRequest) -> Entry:
    """Append an entry that restores an older generation; returns the newest entry if it already does.

    A request without target and without `leaves`, run again after a crash, may already be done: it rolls
    nothing back.

    The target release is verified first, so that every entry can be served.

    Raises:
        NothingToRollBack: there is no such generation.
        ReleaseWithdrawn: the target's release was withdrawn.
        ObjectMissing, ReleaseCorrupt: the target's release is incomplete or damaged.
        PromotionLost: another run took the next generation meanwhile.
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
    entry = roll_back_entry(chosen, entries, _newest(installation.store, model), (request.actor, request.reason))
    return ledger.append(installation.store, model.name, entry)


def repeatable(installation: Installation, model: ModelConfig, request: RollBackRequest) -> RollBackRequest:
    """The request made idempotent: without target and `leaves` it leaves the generation that is served now."""
    current = ledger.champion(installation.store, model.name)
    if not current or request.leaves or request.generation or request.attempt > 1:
        return request
    return request.model_copy(update={"leaves": current.generation})


def _named(entries: Sequence[Entry], generation: int) -> Entry | None:
    return next((e for e in entries[:-1] if e.generation == generation), None)


def previous(store: Store, model: str, entries: Sequence[Entry]) -> Entry | None:
    """The newest generation before the served or restored one that can replace it.

    Excluded are withdrawn and abandoned releases, others of the same LoRAs, and incomplete or damaged ones. Releases
    are verified newest first, as far as needed.
    """
    withdrawn = {withdrawal.release for withdrawal in withdrawals(store, model)}
    bad = withdrawn | {entries[-1].release} | {e.abandons for e in entries if ledger.is_abandoned(entries, e.abandons)}
    trainings = {ledger.training_of(entries, release) for release in bad} - {""}
    older = [e for e in entries if e.generation < ledger.profile_generation(entries)]
    good = (e for e in reversed(older) if e.release not in bad and e.training not in trainings)
    return next((e for e in good if _servable(store, model, e.release)), None)


def _servable(store: Store, model: str, release: str) -> bool:
    """Whether a release is intact; always true of the bare base."""
    try:
        return not release or bool(verify_release(store, model, release))
    except (*UNREADABLE, ReleaseWithdrawn):
        return False


def _newest(store: Store, model: ModelConfig) -> tuple[str, str]:
    """The dataset of a model's automatic retrains, and the version that they would take."""
    return model.dataset, training_version(store, model.name, model.dataset)


def roll_back_entry(
    chosen: Entry | None, entries: Sequence[Entry], data: tuple[str, str], cause: tuple[str, str]
) -> Entry:
    """The ledger entry of a roll-back to `chosen`, None: to the bare base.

    Args:
        data: dataset and version; newer data ends the hold.
        cause: actor and reason.
    """
    current, now = entries[-1], clock.now()
    release = chosen.release if chosen else ""
    return Entry(
        generation=current.generation + 1,
        action="roll_back",
        release=release,
        training=chosen.training if chosen else "",
        dataset=data[0],
        dataset_version=data[1],
        evaluation=chosen.evaluation if chosen else "",
        restores=profile_of(chosen) if chosen else 0,
        abandons=current.release if current.release != release else "",
        traffic_from=chosen.traffic_from if chosen else now,
        actor=cause[0],
        reason=cause[1],
        time=now,
    )


def profile_of(entry: Entry) -> int:
    """The generation that an entry serves: its own, or the restored one."""
    return entry.restores or entry.generation


def roll_back_withdrawn(installation: Installation, model: ModelConfig) -> Entry | None:
    """Roll back while the champion's release is withdrawn; returns the new entry, None without need."""
    done = None
    while (entries := ledger.history(installation.store, model.name)) and (
        taken := find_withdrawal(installation.store, model.name, entries[-1].release)
    ):
        cause = (taken.actor, f"release {taken.release} was withdrawn: {taken.reason}")
        chosen = previous(installation.store, model.name, entries)
        entry = roll_back_entry(chosen, entries, _newest(installation.store, model), cause)
        with suppress(PromotionLost):
            done = ledger.append(installation.store, model.name, entry)
    return done
