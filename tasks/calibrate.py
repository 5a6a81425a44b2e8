"""Calibration of the gate."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import artifact_key, open_model
from tasks.core import clock
from tasks.core.config.requests import CalibrateRequest
from tasks.core.gate.calibration import Calibration, propose
from tasks.core.models.clip import Clip
from tasks.core.store.documents import render
from tasks.gpu import gpu_slot
from tasks.timeouts import ON_THE_GPU


@task(timeout_seconds=ON_THE_GPU)
def calibrate(request: CalibrateRequest) -> Calibration:
    """Measure the noise, store it under `calibrations/`, and show the resulting margins."""
    from tasks.core.evaluation.calibration import calibration_scores  # noqa: PLC0415  late: it imports torch

    installation, model = open_model(request.model)
    with gpu_slot():
        first, second = calibration_scores(installation, model, request, Clip(model, installation.settings.device))
    found = propose(first, second, request.gate or model.preset.gate)
    place = f"models/{model.name}/calibrations/{clock.now():%Y%m%dT%H%M%S}.json"
    installation.store.write(place, render(found))
    for noise in found.noises:
        get_run_logger().info("%s; mean %.3f", noise.says, noise.level)
    get_run_logger().info("%s/%s", installation.store.url, place)
    lines = "\n".join(f"- {noise.says}; mean {noise.level:.3f}" for noise in found.noises)
    text = f"{lines}\n\nThe smallest sensible margins, for the preset:\n\n```yaml\ngate:\n{found.as_yaml()}```"
    create_markdown_artifact(
        text, key=artifact_key(model.name, "calibration"), description="The noise of the gate's measures"
    )
    return found
