"""The training task while the Prefect server is unreachable."""

from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.train import _Progress


def test_unreachable_server_does_not_stop_training_and_is_reported_at_the_end() -> None:
    away = {PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with disable_run_logger(), temporary_settings(away):
        progress = _Progress("adire-training-progress", 2)
        for step in (1, 2):
            progress.step(step, {"loss": 0.5, "steps_per_second": 2.0})
    assert progress.page.artifact is None
    assert progress.page.fault.startswith("the progress artifact is incomplete (ConnectError")
