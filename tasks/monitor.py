"""Monitoring: check, decide, report."""

from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING

from prefect import get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.context import announce, artifact_key, open_model
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import MonitorRequest
from tasks.core.installation import open_installation
from tasks.core.lifecycle.announcements import decision_events
from tasks.core.models.clip import Clip
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.embeddings import Batch, EmbeddingCache, batches
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.drift_report import drawings, track, write_metrics, write_pages
from tasks.core.retraining.causes import decide_on_drift
from tasks.core.retraining.decisions import RetrainDecision
from tasks.timeouts import LONG, SHORT

if TYPE_CHECKING:
    from tasks.core.models.encoder import Encoder

BATCH = 1024  # prompts that one mapped task embeds


@task(timeout_seconds=SHORT)
def flush_outbox() -> None:
    """Send the pending events of earlier runs; a failed delivery does not stop the check."""
    if sent := announce(open_installation()):
        get_run_logger().warning("%d events of earlier runs were sent now", sent)


@lru_cache(maxsize=2)
def _encoder(scorer: str, device: str) -> "Encoder":
    """One for each scorer and process, whatever the number of models: loading takes seconds."""
    from tasks.core.models.encoder import Encoder  # noqa: PLC0415  late: a check with nothing to do does not import torch

    return Encoder(scorer, device)


@lru_cache(maxsize=64)
def _clip(model: ModelConfig, device: str) -> Clip:
    """One for each model and process: the fingerprint of its scorer is that of a file."""
    return Clip(model, device, _encoder)


@task(timeout_seconds=LONG, cache_policy=NO_CACHE)
def open_check(request: MonitorRequest) -> DriftCheck:
    """The check of this run, shared by all later tasks, so that its window is read once."""
    installation, model = open_model(request.model)
    spec = request.monitor or model.preset.monitor
    return DriftCheck(installation, model, spec, _clip(model, installation.settings.device))


@task(timeout_seconds=LONG, cache_policy=NO_CACHE)
def find_new_prompts(check: DriftCheck) -> list[Batch]:
    """The prompts that the check needs and that have no embedding, in batches."""
    texts = check.new_prompts()
    get_run_logger().info("%d prompts are new and will be embedded", sum(map(len, texts.values())))
    return batches(texts, BATCH)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=LONG)
def embed_prompts(batch: Batch, model: ModelConfig) -> int:
    """Embed a batch and store it, on this machine or a Dask worker; returns the number of prompts."""
    installation = open_installation()
    clip = _clip(model, installation.settings.device)
    cache = EmbeddingCache(installation.store, model.name, clip.hash, installation.settings.cache)
    cache.add(batch, clip.encode_texts)
    return sum(map(len, batch.values()))


@task(timeout_seconds=LONG, cache_policy=NO_CACHE)
def check_drift(check: DriftCheck) -> DriftRecord:
    """Compare the last window of the prompt log with the active reference."""
    record = check.run()
    get_run_logger().info("drift of %s: %s: %s", record.model, record.verdict, record.says)
    if record.unreadable:
        get_run_logger().warning("damaged objects of the prompt log are left out: %s", ", ".join(record.unreadable))
    rows = "\n".join(f"- `{' '.join(prompt.replace('`', ' ').split())}`" for prompt in record.fresh)
    text = f"**{record.verdict}**: {record.says}\n\n{rows and 'New in the traffic:'}\n\n{rows}"
    key = artifact_key(record.model, "drift")
    create_markdown_artifact(text, key=key, description="Drift of the production prompts")
    return record


@task(retries=2, retry_delay_seconds=5, timeout_seconds=LONG, cache_policy=NO_CACHE)
def report_drift(check: DriftCheck, record: DriftRecord, decision: RetrainDecision) -> None:
    """Write the pages and metrics of a check, and create artifacts of its plots."""
    write_metrics(check, record)
    for key in write_pages(check, record, decision):
        get_run_logger().info("%s/%s", check.store.url, key)
    track(check, record)
    for name, (description, picture) in drawings(check, record).items():
        url = f"data:image/png;base64,{b64encode(picture).decode()}"
        create_image_artifact(url, key=artifact_key(record.model, name), description=description)


@task(timeout_seconds=SHORT)
def decide_retrain(record: DriftRecord, request: MonitorRequest) -> RetrainDecision:
    """Decide by the policy, and emit the event of a decision."""
    installation, model = open_model(record.model)
    decision = decide_on_drift(installation.store, model, record, request.policy or model.preset.policy)
    get_run_logger().info("decision %s: %s (%s)", decision.id, decision.action, decision.reason)
    announce(installation, *decision_events(model.name, decision))
    return decision
