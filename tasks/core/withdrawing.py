"""A release is taken back for good: recorded, left by the ledger and every channel, its weights deleted if asked."""

from tasks.core import clock
from tasks.core.errors import ObjectMissing, ReleaseUnknown, SettingError
from tasks.core.publishing.places import open_places
from tasks.core.registry import ledger
from tasks.core.registry.channel import flip
from tasks.core.registry.releases import WEIGHTS, delete_files, made_from, release_manifest
from tasks.core.registry.withdrawals import Withdrawal, record_withdrawal
from tasks.core.requests import WithdrawRequest
from tasks.core.rollback import leave_withdrawn
from tasks.core.settings import Settings
from tasks.core.store import Store, delete_prefix
from tasks.core.store.probe import require_conditions


def withdraw(store: Store, settings: Settings, request: WithdrawRequest) -> Withdrawal:
    """Take a release back; where it is served, the newest good generation before it, or the bare base, takes its place.

    Repeatable: what was recorded first stands, and what was cut off is finished.

    Raises:
        ReleaseUnknown: there is no such release or generation.
        PublishRefused: a place cannot be used; it is marked as withdrawn here, and no weights are deleted.
    """
    if not request.reason:
        raise SettingError("spec.reason", "withdrawing a release needs a reason")
    require_conditions(store)
    asked = record_withdrawal(store, settings.model, _withdrawal(store, settings, request))
    taken = [record_withdrawal(store, settings.model, twin) for twin in _twins(store, settings, asked)]
    leave_withdrawn(store, settings)
    entry = ledger.champion(store, settings.model)
    if entry:
        flip(store, settings.model, entry)
    for place in open_places(store, settings):
        if entry and not place.serves(entry):
            place.publish(entry)
        for withdrawal in taken:
            place.withdraw(withdrawal, request.delete_weights)
    for withdrawal in taken if request.delete_weights else ():
        _delete(store, settings, withdrawal)
    return asked


def _twins(store: Store, settings: Settings, asked: Withdrawal) -> list[Withdrawal]:
    """What was asked for, and every other release of the same LoRA in the ledger."""
    entries = ledger.history(store, settings.model) if asked.training else []
    releases = {e.release for e in entries if made_from(store, settings.model, e.release) == asked.training}
    return [asked.model_copy(update={"release": release}) for release in sorted(releases | {asked.release})]


def _delete(store: Store, settings: Settings, withdrawal: Withdrawal) -> None:
    """Delete the weights, what they drew (evaluation.renders), and what they were made of."""
    weights = release_manifest(store, settings.model, withdrawal.release).files[WEIGHTS]
    delete_prefix(store, f"renders/{weights[:16]}")
    delete_files(store, settings.model, withdrawal)
    if withdrawal.training:
        delete_prefix(store, f"checkpoints/{withdrawal.training}")


def _withdrawal(store: Store, settings: Settings, request: WithdrawRequest) -> Withdrawal:
    release = request.release
    if request.generation:
        entries = ledger.history(store, settings.model)
        release = next((e.release for e in entries if e.generation == request.generation), "")
    if not release:
        named = f"generation {request.generation} with a release" if request.generation else "release without a name"
        raise ReleaseUnknown(named, settings.model)
    try:
        training = release_manifest(store, settings.model, release).training
    except ObjectMissing as error:
        raise ReleaseUnknown(f"release {release!r}", settings.model) from error
    return Withdrawal(release=release, training=training, actor=request.actor, reason=request.reason, time=clock.now())
