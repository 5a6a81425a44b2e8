"""Withdrawal of a release: recorded, rolled back in the ledger and every channel, its weights deleted on request."""

from contextlib import suppress

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import WithdrawRequest
from tasks.core.errors import DyeworksError, ObjectMissing, ReleaseUnknown, SettingError
from tasks.core.installation import Installation
from tasks.core.lifecycle.roll_back import roll_back_withdrawn
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.targets import PublishingTarget, target_factories
from tasks.core.registry import ledger
from tasks.core.registry.channel import flip
from tasks.core.registry.releases import delete_files, release_manifest
from tasks.core.registry.results import checkpoint_folder, render_folder
from tasks.core.registry.withdrawals import Withdrawal, deletions, find_withdrawal, record_withdrawal, request_deletion
from tasks.core.store import delete_prefix
from tasks.core.store.conditional_writes import require_conditions
from tasks.core.store.documents import Document


class Withdrawn(Document):
    """A withdrawal, and the reasons why it is pending at some places."""

    withdrawal: Withdrawal
    pending: tuple[str, ...] = ()


def withdraw(installation: Installation, model: ModelConfig, request: WithdrawRequest) -> Withdrawn:
    """Withdraw a release; if it is served, the newest good generation before it or the bare base replaces it.

    Idempotent: the first record stands, and an interrupted withdrawal is finished by a second call or by `reconcile`,
    including places that are down now. Places are independent of each other.

    Raises:
        ReleaseUnknown: there is no such release or generation.
    """
    if not request.reason:
        raise SettingError("spec.reason", "withdrawing a release needs a reason")
    require_conditions(installation.store)
    named = _withdrawal(installation, model, request)
    recorded = _record(installation, model, named, request.delete_weights)
    roll_back_withdrawn(installation, model)
    entry = ledger.champion(installation.store, model.name)
    if entry:
        flip(installation.store, model.name, entry)
    pending = list[str]()
    for open_place in target_factories(installation, model):
        try:
            _withdraw_at(open_place(), entry, recorded, request.delete_weights)
        except (DyeworksError, OSError) as error:
            pending.append(" ".join(str(error).split()))
    for withdrawal in recorded if request.delete_weights else ():
        delete_weights(installation, model, withdrawal)
    withdrawal = next(withdrawal for withdrawal in recorded if withdrawal.release == named.release)
    return Withdrawn(withdrawal=withdrawal, pending=tuple(pending))


def _withdraw_at(place: PublishingTarget, entry: ledger.Entry | None, recorded: list[Withdrawal], delete: bool) -> None:
    if entry and not place.serves(entry):
        place.publish(entry)
    for withdrawal in recorded:
        place.withdraw(withdrawal, delete)


def finish_records(installation: Installation, model: ModelConfig) -> None:
    """Record withdrawals that were interrupted after their deletion was requested."""
    for withdrawal in deletions(installation.store, model.name):
        if not find_withdrawal(installation.store, model.name, withdrawal.release):
            _record(installation, model, withdrawal, delete=True)


def _record(installation: Installation, model: ModelConfig, named: Withdrawal, delete: bool) -> list[Withdrawal]:
    """Record the withdrawal of every release of the LoRA, after the request to delete their weights."""
    same_lora = _of_same_lora(
        installation, model, find_withdrawal(installation.store, model.name, named.release) or named
    )
    for withdrawal in same_lora if delete else ():
        request_deletion(installation.store, model.name, withdrawal)
    return [record_withdrawal(installation.store, model.name, withdrawal) for withdrawal in same_lora]


def _of_same_lora(installation: Installation, model: ModelConfig, first: Withdrawal) -> list[Withdrawal]:
    """The requested withdrawal, and those of other releases of the same LoRA in the ledger."""
    entries = ledger.history(installation.store, model.name) if first.training else []
    releases = {entry.release for entry in entries if entry.training == first.training}
    return [first.model_copy(update={"release": release}) for release in sorted(releases | {first.release})]


def delete_weights(installation: Installation, model: ModelConfig, withdrawal: Withdrawal) -> int:
    """Delete the weights, their rendered pictures and checkpoints; returns the number of objects."""
    gone = delete_files(installation.store, model.name, withdrawal)
    with suppress(ObjectMissing):  # without the manifest its renders are unknown
        weights = release_manifest(installation.store, model.name, withdrawal.release).files[WEIGHTS]
        gone += delete_prefix(installation.store, render_folder(model.name, weights))
    if withdrawal.training:
        gone += delete_prefix(installation.store, checkpoint_folder(model.name, withdrawal.training))
    return gone


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
