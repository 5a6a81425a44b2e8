"""Promotion and roll-back."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.context import open_context
from tasks.core.events import Champion, emit, make_event
from tasks.core.promotion import project, promote, roll_back
from tasks.core.registry.ledger import Entry
from tasks.core.requests import PromoteRequest, RollBackRequest
from tasks.core.results import PromotionResult


@task
def gate_and_promote(request: PromoteRequest) -> PromotionResult:
    """Gate the evaluation and record a promotion in the ledger."""
    store, settings = open_context()
    result = promote(store, settings, request)
    get_run_logger().info("gate: %s (%s)", result.decision.verdict, result.decision.reason)
    rows = [check.model_dump(mode="json", exclude={"schema_version"}) for check in result.decision.checks]
    create_table_artifact(rows, key="gate", description=f"Verdict: {result.decision.verdict}")
    text = f"**{result.decision.verdict}**: {result.decision.reason}"
    create_markdown_artifact(text, key="decision", description="The gate's decision")
    return result


@task(retries=2, retry_delay_seconds=2)
def project_ledger(result: PromotionResult) -> None:
    """Bring MLflow's aliases in line with the ledger and tell of the promotion."""
    store, settings = open_context()
    if not result.generation:
        return
    project(store, settings)
    payload = Champion(reason=result.decision.reason, generation=result.generation, release=result.release)
    key = f"{settings.model}-{result.generation}-{result.release}"
    emit(store, make_event("dyeworks.champion.promoted", settings.model, payload, key=key))


@task
def enter_roll_back(request: RollBackRequest) -> Entry:
    """Append the roll-back to the ledger."""
    store, settings = open_context()
    entry = roll_back(store, settings, request)
    project(store, settings)
    served = f"release `{entry.release}` of generation {entry.restores}"
    text = f"Generation {entry.generation} serves {served} again: {entry.reason}"
    create_markdown_artifact(text, key="roll-back", description="The roll-back")
    return entry
