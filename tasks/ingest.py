"""Ingesting uploads."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.context import open_context
from tasks.core import clock, policy
from tasks.core.data.dataset import Manifest, ingest, pictures_since
from tasks.core.events import DatasetReady, Declined, emit, make_event
from tasks.core.registry import ledger
from tasks.core.requests import IngestRequest
from tasks.core.specs import load_preset


@task
def ingest_uploads(request: IngestRequest) -> Manifest:
    """Make a dataset version of all uploads and tell what was refused."""
    store, settings = open_context()
    name = request.dataset or settings.dataset
    manifest, refusals = ingest(store, name, request.ingest or load_preset().ingest)
    logger = get_run_logger()
    logger.info("dataset %s version %s: %d pictures", name, manifest.version, len(manifest.items))
    if refusals:
        logger.warning(
            "%d uploads were refused, the first: %s: %s", len(refusals), refusals[0].name, refusals[0].reason
        )
        rows = [{"name": r.name, "reason": r.reason} for r in refusals]
        create_table_artifact(rows, key="quarantine", description="Uploads that are not in the dataset")
    text = (
        f"Dataset **{name}**, version `{manifest.version}`: {len(manifest.items)} pictures, {manifest.new} of them new."
    )
    create_markdown_artifact(text, key="dataset", description="The dataset version")
    return manifest


@task
def announce_dataset(manifest: Manifest) -> None:
    """Decide by the policy whether the new pictures start a retrain, and emit the event."""
    store, settings = open_context()
    entries = tuple(ledger.history(store, settings.model))
    history = tuple(policy.decisions(store, settings.model))
    if any(d.cause == "data" and d.dataset_version == manifest.version for d in history):
        get_run_logger().info("version %s was announced before", manifest.version)
        return
    now = clock.now()
    situation = policy.Situation(now=now, history=history, ledger=entries, dataset_version=manifest.version)
    new = pictures_since(store, manifest, entries[-1].dataset_version if entries else "")
    action, reason = policy.on_data(new, situation, load_preset().policy)
    decision = policy.Decision(
        id=policy.decision_id("data", now, manifest.version),
        time=now,
        cause="data",
        action=action,
        reason=reason,
        dataset_version=manifest.version,
        generation=entries[-1].generation if entries else 0,
    )
    get_run_logger().info("decision %s: %s (%s)", decision.id, action, reason)
    ready = DatasetReady(
        reason=reason, dataset=manifest.dataset, version=manifest.version, new_pictures=new, decision=decision.id
    )
    labels: dict[str, str] = {"dyeworks.action": action}
    emit(store, make_event("dyeworks.dataset.ready", settings.model, ready, labels, key=decision.id))
    if action == "declined":
        declined = Declined(reason=reason, decision=decision.id)
        emit(store, make_event("dyeworks.retrain.declined", settings.model, declined, key=decision.id))
    policy.record(store, settings.model, decision)
