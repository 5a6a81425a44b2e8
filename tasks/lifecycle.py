"""Beginning and end of life of releases."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import everywhere, open_context
from tasks.core.config.requests import AdoptRequest, WithdrawRequest
from tasks.core.errors import SettingError
from tasks.core.lifecycle.adopt import adopt
from tasks.core.lifecycle.withdraw import Withdrawn, withdraw
from tasks.core.registry.ledger import Entry, champion
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
def withdraw_generation(request: WithdrawRequest) -> Withdrawn:
    """Take a release back for good, wherever it is; places that could not be reached are listed."""
    found = _withdraw(request)
    done = found.withdrawal
    get_run_logger().info("release %s is withdrawn by %s: %s", done.release, done.actor, done.reason)
    weights = "Its weights are deleted." if request.delete_weights else "Its weights are kept."
    text = f"Release `{done.release}` is withdrawn by {done.actor}: {done.reason}. {weights}"
    for place in found.pending:
        get_run_logger().warning("not withdrawn there yet: %s", place)
        text += f"\n\nNot withdrawn there yet, reconcile-champion goes on with it: {place}"
    create_markdown_artifact(text, key="withdrawal", description="The release that was withdrawn")
    return found


def _withdraw(request: WithdrawRequest) -> Withdrawn:
    """Withdraw it; without the Hub's token there, and at the Hub later."""
    found = list[Withdrawn]()
    try:
        everywhere(lambda store, settings: found.append(withdraw(store, settings, request)))
    except SettingError as error:
        if not found:
            raise
        return found[0].model_copy(update={"pending": (*found[0].pending, str(error))})
    return found[0]


def tell_of_withdrawal(found: Withdrawn) -> None:
    """Tell people, and what is served in its place, and where it is not withdrawn yet."""
    store, settings = open_context()
    done, entry = found.withdrawal, champion(store, settings.model)
    instead = entry.generation if entry and entry.abandons == done.release else 0
    tell_withdrawal(done.release, done.actor, done.reason, instead, found.pending)
