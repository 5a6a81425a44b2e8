"""Calibrate the margins of the gate: compare a model with itself."""

from prefect import flow

from tasks.calibrate import calibrate
from tasks.core.config.requests import CalibrateRequest
from tasks.labels import label_run
from tasks.timeouts import GPU_FLOW


@flow(name="calibrate-gate", on_running=[label_run], timeout_seconds=GPU_FLOW)
def calibrate_gate(spec: CalibrateRequest = CalibrateRequest()) -> None:
    """Render and measure one model twice, with different seeds, and propose margins wider than the noise."""
    calibrate(spec)


if __name__ == "__main__":
    calibrate_gate()
