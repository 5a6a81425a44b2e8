"""Promotion and roll-back."""

from base64 import b64encode

from prefect import get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from tasks.context import announce, artifact_key, open_model
from tasks.core.config.requests import ModelRequest, PromoteRequest, RollBackRequest
from tasks.core.installation import open_installation
from tasks.core.lifecycle.announcements import promotion_event
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.roll_back import repeatable, roll_back
from tasks.core.models.images import light
from tasks.core.registry.ledger import Entry
from tasks.core.registry.results import PromotionResult
from tasks.timeouts import LONG, SHORT


@task(timeout_seconds=LONG)
def gate_and_promote(request: PromoteRequest) -> PromotionResult:
    """Gate the evaluation and record a promotion in the ledger."""
    result = promote(*open_model(request.model), request)
    get_run_logger().info("gate: %s (%s)", result.decision.verdict, result.decision.reason)
    return result


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def show_decision(result: PromotionResult, request: PromoteRequest) -> None:
    """Store the decision document, and create artifacts of it and of the picture grids."""
    from tasks.core.reporting.gate_page import write_document  # noqa: PLC0415  late: a roll-back need not load mlflow

    installation, model = open_model(result.model)
    document = write_document(installation, model, request, result)
    get_run_logger().info("%s/%s", installation.store.url, document.key)
    create_markdown_artifact(
        document.markdown, key=artifact_key(model.name, "decision"), description="The gate's decision"
    )
    rows = [check.model_dump(mode="json", exclude={"schema_version"}) for check in result.decision.checks]
    create_table_artifact(rows, key=artifact_key(model.name, "gate"), description=f"Verdict: {result.decision.verdict}")
    for number, (title, grid) in enumerate(document.grids.items(), 1):
        url = f"data:image/webp;base64,{b64encode(light(grid)).decode()}"
        create_image_artifact(url, key=artifact_key(model.name, f"decision-pictures-{number}"), description=title)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=SHORT)
def announce_promotion(result: PromotionResult) -> None:
    """Emit the event of a promotion."""
    if result.generation:
        event = promotion_event(result.model, result.generation, result.release, result.decision.reason)
        announce(open_installation(), event)


def record_roll_back(request: RollBackRequest) -> Entry:
    """Append the roll-back to the ledger; idempotent when a task is retried."""
    return append_roll_back(resolve_roll_back(request))


@task(retries=2, retry_delay_seconds=[2, 5], timeout_seconds=SHORT)
def resolve_roll_back(request: RollBackRequest) -> RollBackRequest:
    """Fill in the generation to roll back from if none is given, so that the next task can be retried."""
    return repeatable(*open_model(request.model), request)


@task(retries=2, retry_delay_seconds=[2, 5], timeout_seconds=LONG)
def append_roll_back(request: RollBackRequest) -> Entry:
    """Append the roll-back to the ledger."""
    installation, model = open_model(request.model)
    entry = roll_back(installation, model, request)
    served = f"release `{entry.release}` of generation {entry.restores}" if entry.release else "the bare base"
    text = f"Generation {entry.generation} serves {served}: {entry.reason}"
    create_markdown_artifact(text, key=artifact_key(model.name, "roll-back"), description="The roll-back")
    return entry


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def project_ledger(request: ModelRequest) -> None:
    """Update MLflow's model versions and aliases to match the ledger."""
    from tasks.core.publishing.mlflow_registry import sync_mlflow_registry  # noqa: PLC0415  late: a roll-back need not load mlflow

    for change in sync_mlflow_registry(*open_model(request.model)):
        get_run_logger().info("%s", change)
