"""Beginning and end of life of releases."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import everywhere, open_context
from tasks.core.adoption import adopt
from tasks.core.registry.ledger import Entry, champion
from tasks.core.registry.withdrawals import Withdrawal
from tasks.core.requests import AdoptRequest, WithdrawRequest
from tasks.core.withdrawing import withdraw
from tasks.notify import tell_withdrawal
from tasks.timeouts import LONG


@task(timeout_seconds=LONG)
def adopt_release(request: AdoptRequest) -> Entry:
    """Make a LoRA of the store generation 1."""
    store, settings = open_context()
    entry = adopt(store, settings, request)
    text = f"Release `{entry.release}` of {request.source} is generation {entry.generation}: {entry.reason}"
    create_markdown_artifact(text, key="adoption", description="The LoRA that was adopted")
    return entry


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def withdraw_generation(request: WithdrawRequest) -> Withdrawal:
    """Take a release back for good, wherever it is."""
    done = everywhere(lambda store, settings: withdraw(store, settings, request))
    get_run_logger().info("release %s is withdrawn by %s: %s", done.release, done.actor, done.reason)
    weights = "Its weights are deleted." if request.delete_weights else "Its weights are kept."
    text = f"Release `{done.release}` is withdrawn by {done.actor}: {done.reason}. {weights}"
    create_markdown_artifact(text, key="withdrawal", description="The release that was withdrawn")
    return done


def tell_of_withdrawal(done: Withdrawal) -> None:
    """Tell people, and what is served in its place."""
    store, settings = open_context()
    entry = champion(store, settings.model)
    instead = entry.generation if entry and entry.abandons == done.release else 0
    tell_withdrawal(done.release, done.actor, done.reason, instead)
