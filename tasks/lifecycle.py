"""Adoption and withdrawal of releases."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import artifact_key, open_model, with_hub_token
from tasks.core.config.requests import AdoptRequest, WithdrawRequest
from tasks.core.errors import SettingError
from tasks.core.lifecycle.adopt import adopt
from tasks.core.lifecycle.withdraw import Withdrawn, withdraw
from tasks.core.notifications import withdrawal_notification
from tasks.core.registry.ledger import Entry, champion
from tasks.notify import notify
from tasks.timeouts import LONG


@task(timeout_seconds=LONG)
def adopt_release(request: AdoptRequest) -> Entry:
    """Record a LoRA in the store as generation 1."""
    installation, model = open_model(request.model)
    entry = adopt(installation, model, request)
    text = f"Release `{entry.release}` of {request.source} is generation {entry.generation}: {entry.reason}"
    create_markdown_artifact(text, key=artifact_key(model.name, "adoption"), description="The LoRA that was adopted")
    return entry


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def withdraw_generation(request: WithdrawRequest) -> Withdrawn:
    """Withdraw a release permanently from every target; targets that could not be reached are listed."""
    model, found = open_model(request.model)[1], _withdraw(request)
    done = found.withdrawal
    get_run_logger().info("release %s is withdrawn by %s: %s", done.release, done.actor, done.reason)
    weights = "Its weights are deleted." if request.delete_weights else "Its weights are not deleted."
    text = f"Release `{done.release}` is withdrawn by {done.actor}: {done.reason}. {weights}"
    for place in found.pending:
        get_run_logger().warning("withdrawal pending: %s", place)
        text += f"\n\nWithdrawal pending, retried by reconcile-champion: {place}"
    create_markdown_artifact(
        text, key=artifact_key(model.name, "withdrawal"), description="The release that was withdrawn"
    )
    return found


def _withdraw(request: WithdrawRequest) -> Withdrawn:
    """Withdraw it; without the Hub's token the Hub is left pending."""
    found = list[Withdrawn]()
    try:
        with_hub_token(request.model, lambda installation, model: found.append(withdraw(installation, model, request)))
    except SettingError as error:
        if not found:
            raise
        return found[0].model_copy(update={"pending": (*found[0].pending, str(error))})
    return found[0]


def notify_withdrawal(request: WithdrawRequest, found: Withdrawn) -> None:
    """Send a notification with the generation served instead and the targets where the withdrawal is pending."""
    installation, model = open_model(request.model)
    done, entry = found.withdrawal, champion(installation.store, model.name)
    instead = entry.generation if entry and entry.abandons == done.release else 0
    notify(withdrawal_notification(model.name, done.release, done.actor, done.reason, instead, found.pending))
