"""Pause or resume retraining."""

from prefect import flow

from tasks.core.config.requests import SteerRequest
from tasks.labels import label_run
from tasks.steer import steer
from tasks.timeouts import SHORT_FLOW


@flow(name="steer-retraining", on_running=[label_run], timeout_seconds=SHORT_FLOW)
def steer_retraining(spec: SteerRequest = SteerRequest()) -> None:
    """Store an operator's decision, which the policy applies from the next cause on; runs in progress complete."""
    steer(spec)


if __name__ == "__main__":
    steer_retraining()
