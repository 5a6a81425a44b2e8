"""Monitoring: check, decide, tell."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import open_context
from tasks.core import policy
from tasks.core.clip import Clip
from tasks.core.data.dataset import load_manifest
from tasks.core.errors import DatasetUnusable
from tasks.core.events import Declined, DriftDetected, emit, flush, make_event
from tasks.core.monitoring import run_check
from tasks.core.records import DriftRecord
from tasks.core.registry import ledger
from tasks.core.requests import MonitorRequest
from tasks.core.settings import Settings
from tasks.core.specs import load_preset
from tasks.core.store import Store


@task
def flush_outbox() -> None:
    """Send events that an earlier run could not send."""
    store, _ = open_context()
    if sent := flush(store):
        get_run_logger().warning("%d events of earlier runs were sent now", sent)


@task
def check_drift(request: MonitorRequest) -> DriftRecord:
    """Compare the last window of the prompt log with the champion's reference."""
    store, settings = open_context()
    preset = load_preset()
    record = run_check(store, settings, request.monitor or preset.monitor, Clip(settings), preset.evaluation.drifted)
    get_run_logger().info("drift: %s: %s", record.verdict, record.says)
    rows = "\n".join(f"- {prompt}" for prompt in record.fresh)
    text = f"**{record.verdict}**: {record.says}\n\n{rows and 'New in the traffic:'}\n\n{rows}"
    create_markdown_artifact(text, key="drift", description="Drift of the production prompts")
    return record


@task
def decide_retrain(record: DriftRecord, request: MonitorRequest) -> policy.Decision:
    """Decide by the policy, keep the decision, and emit its event."""
    store, settings = open_context()
    history = tuple(policy.decisions(store, settings.model))
    situation = policy.Situation(
        now=record.time,
        history=history,
        ledger=tuple(ledger.history(store, settings.model)),
        dataset_version=_newest_version(store, settings),
    )
    spec = request.policy or load_preset().policy
    action, reason = policy.on_drift(record.verdict, situation, spec)
    decision = policy.decide(
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
    policy.record(store, settings.model, decision)
    _tell(store, settings, decision)
    return decision


def _newest_version(store: Store, settings: Settings) -> str:
    try:
        return load_manifest(store, settings.dataset).version
    except DatasetUnusable:
        return ""


def _tell(store: Store, settings: Settings, decision: policy.Decision) -> None:
    if decision.action == "retrain":
        payload = DriftDetected(
            reason=decision.reason, psi=decision.psi or 0.0, report=decision.report, decision=decision.id
        )
        emit(store, make_event("dyeworks.drift.detected", settings.model, payload, key=decision.id))
    elif decision.action == "declined":
        declined = Declined(reason=decision.reason, decision=decision.id)
        emit(store, make_event("dyeworks.retrain.declined", settings.model, declined, key=decision.id))
