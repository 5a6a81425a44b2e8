"""Calibration of the gate."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import open_context
from tasks.core import clock
from tasks.core.config.presets import load_preset
from tasks.core.config.requests import CalibrateRequest
from tasks.core.evaluation.calibration import calibration_scores
from tasks.core.gate.calibration import Calibration, propose
from tasks.core.models.clip import Clip
from tasks.core.store.documents import render
from tasks.gpu import one_on_the_gpu
from tasks.timeouts import ON_THE_GPU


@task(timeout_seconds=ON_THE_GPU)
def calibrate(request: CalibrateRequest) -> Calibration:
    """Measure the noise, keep it under `calibrations/`, and show the margins that follow."""
    store, settings = open_context()
    with one_on_the_gpu():
        first, second = calibration_scores(store, settings, request, Clip(settings))
    found = propose(first, second, request.gate or load_preset().gate)
    key = f"calibrations/{settings.model}/{clock.now():%Y%m%dT%H%M%S}.json"
    store.write(key, render(found))
    for noise in found.noises:
        get_run_logger().info("%s; mean %.3f", noise.says, noise.level)
    get_run_logger().info("%s/%s", store.url, key)
    lines = "\n".join(f"- {noise.says}; mean {noise.level:.3f}" for noise in found.noises)
    text = f"{lines}\n\nThe least margins that make sense, for the preset:\n\n```yaml\ngate:\n{found.as_yaml()}```"
    create_markdown_artifact(text, key="calibration", description="The noise of the gate's measures")
    return found
