"""Ingesting uploads."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.context import announce, open_context
from tasks.core.config.presets import load_preset
from tasks.core.config.requests import IngestRequest
from tasks.core.data.dataset import Manifest, ingest, load_manifest, remarks
from tasks.core.errors import DatasetUnusable
from tasks.core.lifecycle import announcements
from tasks.core.retraining.decisions import record_decision
from tasks.core.retraining.new_data import decide_on_new_data
from tasks.timeouts import LONG, SHORT

MOST_ROWS = 200  # of an artifact


@task(timeout_seconds=LONG)
def ingest_uploads(request: IngestRequest) -> Manifest:
    """Make a dataset version of all uploads and tell what was refused."""
    store, settings = open_context()
    name = request.dataset or settings.dataset
    manifest, refusals = ingest(store, name, request.ingest or load_preset().ingest, settings.trigger)
    logger = get_run_logger()
    logger.info("dataset %s version %s: %d pictures", name, manifest.version, len(manifest.items))
    if refusals:
        rows = [{"name": r.name, "reason": r.reason} for r in refusals[:MOST_ROWS]]
        what = f"Uploads that are not in the dataset: {len(rows)} of {len(refusals)}, all are in the store's quarantine"
        create_table_artifact(rows, key="quarantine", description=what)
    lines = remarks(store, manifest)
    for line in lines:
        logger.info("%s", line)
    if lines:
        rows = [{"remark": line} for line in lines]
        create_table_artifact(rows, key="remarks", description="What was refused, left out, changed or not used")
    text = (
        f"Dataset **{name}**, version `{manifest.version}`: {len(manifest.items)} pictures, {manifest.new} of them new."
    )
    create_markdown_artifact(text, key="dataset", description="The dataset version")
    return manifest


@task(timeout_seconds=SHORT)
def announce_dataset(manifest: Manifest) -> None:
    """Decide by the policy whether the new pictures start a retrain, and emit the event."""
    _announce(manifest, again=False)


@task(timeout_seconds=SHORT)
def reconsider_dataset() -> None:
    """Look again at the newest version if its retrain was declined: what stood in the way may be over."""
    store, settings = open_context()
    try:
        manifest = load_manifest(store, settings.dataset)
    except DatasetUnusable:  # nothing was uploaded yet
        return
    _announce(manifest, again=True)


def _announce(manifest: Manifest, again: bool) -> None:
    store, settings = open_context()
    decision = decide_on_new_data(store, settings, manifest, load_preset().policy, again)
    if decision is None:
        get_run_logger().info("nothing new to say of version %s", manifest.version)
        return
    get_run_logger().info("decision %s: %s (%s)", decision.id, decision.action, decision.reason)
    record_decision(store, settings.model, decision)
    announce(store, *announcements.decision_events(settings.model, decision))
