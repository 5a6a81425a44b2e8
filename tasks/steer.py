"""An operator pauses or resumes retraining."""

from prefect import get_run_logger, task

from tasks.context import open_model
from tasks.core import clock
from tasks.core.config.requests import SteerRequest
from tasks.core.retraining.decisions import RetrainDecision, make_decision, record_decision
from tasks.timeouts import SHORT


@task(timeout_seconds=SHORT)
def steer(request: SteerRequest) -> RetrainDecision:
    """Record the request among the decisions."""
    installation, model = open_model(request.model)
    reason, now = f"{request.actor}: {request.reason}", clock.now()
    decision = make_decision("operator", now, (request.action, reason), now.isoformat())
    decision = record_decision(installation.store, model.name, decision)
    get_run_logger().info("%s by %s: %s", request.action, request.actor, request.reason)
    return decision
