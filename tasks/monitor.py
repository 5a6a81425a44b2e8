"""Monitoring: check, decide, tell."""

from base64 import b64encode
from functools import lru_cache

from prefect import get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact

from tasks.context import announce, open_context
from tasks.core.config.installation import get_settings
from tasks.core.config.presets import load_preset
from tasks.core.config.requests import MonitorRequest
from tasks.core.data.dataset import newest_version
from tasks.core.lifecycle import announcements
from tasks.core.models.clip import Clip
from tasks.core.monitoring.check import Monitor
from tasks.core.monitoring.embeddings import EmbeddingCache
from tasks.core.monitoring.records import DriftRecord
from tasks.core.monitoring.report import drawings, track, write_metrics, write_pages
from tasks.core.registry import ledger
from tasks.core.retraining import policy
from tasks.core.retraining.decisions import RetrainDecision, read_decisions, record_decision
from tasks.timeouts import LONG, SHORT

BATCH = 1024  # prompts that one mapped task embeds


@task(timeout_seconds=SHORT)
def flush_outbox() -> None:
    """Send events that an earlier run could not send; those that still are not taken keep no check from being made."""
    store, _ = open_context()
    if sent := announce(store):
        get_run_logger().warning("%d events of earlier runs were sent now", sent)


@lru_cache(maxsize=1)
def _clip() -> Clip:
    """One for the process: loading it takes seconds."""
    return Clip(get_settings())


def _monitor(request: MonitorRequest) -> Monitor:
    store, settings = open_context()
    return Monitor(store, settings, request.monitor or load_preset().monitor, _clip())


@task(timeout_seconds=LONG)
def find_new_prompts(request: MonitorRequest) -> list[list[str]]:
    """The prompts that the check needs and that were never embedded, in batches."""
    monitor = _monitor(request)
    texts = monitor.new_prompts(monitor.window())
    get_run_logger().info("%d prompts are new and will be embedded", len(texts))
    return [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]


@task(retries=2, retry_delay_seconds=5, timeout_seconds=LONG)
def embed_prompts(texts: list[str]) -> int:
    """Embed a batch and keep it in the store, on whatever machine this runs; how many there were."""
    store, settings = open_context()
    clip = _clip()
    EmbeddingCache(store, clip.hash, settings.cache).embed(texts, clip.encode_texts)
    return len(texts)


@task(timeout_seconds=LONG)
def check_drift(request: MonitorRequest) -> DriftRecord:
    """Compare the last window of the prompt log with the reference in force."""
    monitor = _monitor(request)
    record = monitor.run(monitor.window(), load_preset().evaluation.drifted)
    get_run_logger().info("drift: %s: %s", record.verdict, record.says)
    if record.unreadable:
        get_run_logger().warning("damaged objects of the prompt log are left out: %s", ", ".join(record.unreadable))
    rows = "\n".join(f"- `{' '.join(prompt.replace('`', ' ').split())}`" for prompt in record.fresh)
    text = f"**{record.verdict}**: {record.says}\n\n{rows and 'New in the traffic:'}\n\n{rows}"
    create_markdown_artifact(text, key="drift", description="Drift of the production prompts")
    return record


@task(retries=2, retry_delay_seconds=5, timeout_seconds=LONG)
def report_drift(record: DriftRecord, decision: RetrainDecision, request: MonitorRequest) -> None:
    """Write the pages and metrics of a check, and show its plots on the run's page."""
    monitor = _monitor(request)
    write_metrics(monitor, record)
    for key in write_pages(monitor, record, decision):
        get_run_logger().info("%s/%s", monitor.store.url, key)
    track(monitor, record)
    for name, (description, picture) in drawings(monitor, record).items():
        url = f"data:image/png;base64,{b64encode(picture).decode()}"
        create_image_artifact(url, key=name, description=description)


@task(timeout_seconds=SHORT)
def decide_retrain(record: DriftRecord, request: MonitorRequest) -> RetrainDecision:
    """Decide by the policy, keep the decision, and emit its event."""
    store, settings = open_context()
    history = tuple(read_decisions(store, settings.model, policy.REMEMBERED))
    situation = policy.Situation(
        now=record.time,
        history=history,
        ledger=tuple(ledger.history(store, settings.model)),
        dataset_version=newest_version(store, settings.dataset),
    )
    spec = request.policy or load_preset().policy
    action, reason = policy.on_drift(record.verdict, situation, spec)
    decision = policy.make_retrain_decision(
        "drift",
        (action, f"{reason}; {record.says}"),
        situation,
        spec,
        record.key,
        generation=record.generation,
        psi=record.drift.psi if record.drift else None,
        verdict=record.verdict,
        report=record.key,
    )
    get_run_logger().info("decision %s: %s (%s)", decision.id, action, decision.reason)
    record_decision(store, settings.model, decision)
    announce(store, *announcements.decision_events(settings.model, decision))
    return decision
