"""A release is taken back for good: recorded, left by the ledger and every channel, its weights deleted if asked."""

from contextlib import suppress

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import WithdrawRequest
from tasks.core.errors import DyeworksError, ObjectMissing, ReleaseUnknown, SettingError
from tasks.core.installation import Installation
from tasks.core.lifecycle.roll_back import leave_withdrawn
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.places import PublishingPlace, doors
from tasks.core.registry import ledger
from tasks.core.registry.channel import flip
from tasks.core.registry.releases import delete_files, made_from, release_manifest
from tasks.core.registry.withdrawals import Withdrawal, ask_deletion, deletions, find_withdrawal, record_withdrawal
from tasks.core.store import delete_prefix
from tasks.core.store.documents import Document
from tasks.core.store.probe import require_conditions


class Withdrawn(Document):
    """A withdrawal, and the places where it could not be finished yet, each with the reason."""

    withdrawal: Withdrawal
    pending: tuple[str, ...] = ()


def withdraw(installation: Installation, model: ModelConfig, request: WithdrawRequest) -> Withdrawn:
    """Take a release back; where it is served, the newest good generation before it, or the bare base, takes its place.

    Repeatable: what was recorded first stands, and what was cut off is finished, by `reconcile` too; so are places that
    cannot be used now, each of which is tried by itself.

    Raises:
        ReleaseUnknown: there is no such release or generation.
    """
    if not request.reason:
        raise SettingError("spec.reason", "withdrawing a release needs a reason")
    require_conditions(installation.store)
    named = _withdrawal(installation, model, request)
    taken = _record(installation, model, named, request.delete_weights)
    leave_withdrawn(installation, model)
    entry = ledger.champion(installation.store, model.name)
    if entry:
        flip(installation.store, model.name, entry)
    pending = list[str]()
    for door in doors(installation, model):
        try:
            _withdraw_at(door(), entry, taken, request.delete_weights)
        except (DyeworksError, OSError) as error:
            pending.append(" ".join(str(error).split()))
    for withdrawal in taken if request.delete_weights else ():
        delete_weights(installation, model, withdrawal)
    withdrawal = next(withdrawal for withdrawal in taken if withdrawal.release == named.release)
    return Withdrawn(withdrawal=withdrawal, pending=tuple(pending))


def _withdraw_at(place: PublishingPlace, entry: ledger.Entry | None, taken: list[Withdrawal], delete: bool) -> None:
    if entry and not place.serves(entry):
        place.publish(entry)
    for withdrawal in taken:
        place.withdraw(withdrawal, delete)


def finish_records(installation: Installation, model: ModelConfig) -> None:
    """Record what was cut off after it was asked for."""
    for withdrawal in deletions(installation.store, model.name):
        if not find_withdrawal(installation.store, model.name, withdrawal.release):
            _record(installation, model, withdrawal, delete=True)


def _record(installation: Installation, model: ModelConfig, named: Withdrawal, delete: bool) -> list[Withdrawal]:
    """Record a withdrawal for every release of the LoRA, after the wish to delete their weights; what is recorded."""
    twins = _twins(installation, model, find_withdrawal(installation.store, model.name, named.release) or named)
    for twin in twins if delete else ():
        ask_deletion(installation.store, model.name, twin)
    return [record_withdrawal(installation.store, model.name, twin) for twin in twins]


def _twins(installation: Installation, model: ModelConfig, asked: Withdrawal) -> list[Withdrawal]:
    """What was asked for, and every other release of the same LoRA in the ledger."""
    entries = ledger.history(installation.store, model.name) if asked.training else []
    releases = {e.release for e in entries if made_from(installation.store, model.name, e.release) == asked.training}
    return [asked.model_copy(update={"release": release}) for release in sorted(releases | {asked.release})]


def delete_weights(installation: Installation, model: ModelConfig, withdrawal: Withdrawal) -> int:
    """Delete the weights, what they drew (evaluation.renders), what they were made of; how many objects that was."""
    gone = delete_files(installation.store, model.name, withdrawal)
    with suppress(ObjectMissing):  # without its manifest nothing tells what it drew
        weights = release_manifest(installation.store, model.name, withdrawal.release).files[WEIGHTS]
        gone += delete_prefix(installation.store, f"renders/{weights[:16]}")
    return gone + (
        delete_prefix(installation.store, f"checkpoints/{withdrawal.training}") if withdrawal.training else 0
    )


def _withdrawal(installation: Installation, model: ModelConfig, request: WithdrawRequest) -> Withdrawal:
    release = request.release
    if request.generation:
        entries = ledger.history(installation.store, model.name)
        release = next((e.release for e in entries if e.generation == request.generation), "")
    if not release:
        named = f"generation {request.generation} with a release" if request.generation else "release without a name"
        raise ReleaseUnknown(named, model.name)
    try:
        training = release_manifest(installation.store, model.name, release).training
    except ObjectMissing as error:
        raise ReleaseUnknown(f"release {release!r}", model.name) from error
    return Withdrawal(release=release, training=training, actor=request.actor, reason=request.reason, time=clock.now())
