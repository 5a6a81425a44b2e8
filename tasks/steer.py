"""An operator's word about retraining."""

from prefect import get_run_logger, task

from tasks.context import open_context
from tasks.core import clock, policy
from tasks.core.requests import SteerRequest
from tasks.timeouts import SHORT


@task(timeout_seconds=SHORT)
def steer(request: SteerRequest) -> policy.Decision:
    """Keep it among the decisions."""
    store, settings = open_context()
    word = f"{request.actor}: {request.reason}"
    decision = policy.make_decision("operator", clock.now(), (request.action, word), request.action)
    policy.record(store, settings.model, decision)
    get_run_logger().info("%s by %s: %s", request.action, request.actor, request.reason)
    return decision
