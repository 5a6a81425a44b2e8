"""Ingesting uploads."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.context import announce, artifact_key, open_model
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import IngestRequest, MonitorRequest
from tasks.core.data.captioning import open_captioner
from tasks.core.data.dataset import Manifest, load_manifest, remarks
from tasks.core.data.ingest import ingest
from tasks.core.errors import DatasetUnusable
from tasks.core.installation import Installation, open_installation
from tasks.core.lifecycle.announcements import decision_events
from tasks.core.retraining.causes import decide_on_data
from tasks.timeouts import LONG, SHORT

MOST_ROWS = 200  # of an artifact


@task(timeout_seconds=LONG)
def ingest_uploads(request: IngestRequest) -> Manifest:
    """Create a dataset version from all uploads and log the rejected files."""
    installation = open_installation()
    name = request.dataset or installation.only_dataset()
    model, *_ = installation.subscribers(name)
    spec = (request.ingest or model.preset.ingest).filled(model.trigger)
    logger = get_run_logger()
    captioner = open_captioner(installation.settings, model)
    try:
        manifest, refusals = ingest(installation.store, name, spec, model.trigger, logger.info, captioner=captioner)
    except DatasetUnusable as error:
        rows = [{"fault": fault} for fault in error.faults[:MOST_ROWS]]
        what = f"Why no version was made of the uploads: {len(rows)} of {len(error.faults)} faults"
        create_table_artifact(rows, key=artifact_key(name, "unusable"), description=what)
        raise
    logger.info("dataset %s version %s: %d pictures", name, manifest.version, len(manifest.items))
    if refusals:
        rows = [{"name": r.name, "reason": r.reason} for r in refusals[:MOST_ROWS]]
        what = f"Rejected uploads: {len(rows)} of {len(refusals)}; all of them are in the store's quarantine"
        create_table_artifact(rows, key=artifact_key(name, "quarantine"), description=what)
    lines = remarks(installation.store, manifest)
    for line in lines:
        logger.info("%s", line)
    if lines:
        rows = [{"remark": line} for line in lines]
        what = "Files that were rejected, left out, changed or not used"
        create_table_artifact(rows, key=artifact_key(name, "remarks"), description=what)
    text = (
        f"Dataset **{name}**, version `{manifest.version}`: {len(manifest.items)} pictures, {manifest.new} of them new."
    )
    if captioner and (cost := captioner.cost()):
        text += f"\n\n{cost}."
    create_markdown_artifact(text, key=artifact_key(name, "dataset"), description="The dataset version")
    return manifest


@task(timeout_seconds=SHORT)
def announce_dataset(manifest: Manifest) -> None:
    """For each subscribed model: decide by its policy whether the new pictures start a retrain; emit the event."""
    installation = open_installation()
    for model in installation.subscribers(manifest.dataset):
        _announce(installation, model, manifest, again=False)


@task(timeout_seconds=SHORT)
def reconsider_datasets(request: MonitorRequest) -> None:
    """Reconsider the newest versions whose retrain was declined: the reason may no longer hold."""
    installation, model = open_model(request.model)
    for dataset in model.datasets:
        try:
            manifest = load_manifest(installation.store, dataset)
        except DatasetUnusable:  # nothing was uploaded yet
            continue
        _announce(installation, model, manifest, again=True)


def _announce(installation: Installation, model: ModelConfig, manifest: Manifest, again: bool) -> None:
    decision = decide_on_data(installation.store, model, manifest, again)
    if decision is None:
        get_run_logger().info("model %s: no new decision about version %s", model.name, manifest.version)
        return
    get_run_logger().info("decision %s: %s (%s)", decision.id, decision.action, decision.reason)
    announce(installation, *decision_events(model.name, decision))
