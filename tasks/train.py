"""Training."""

from typing import TYPE_CHECKING

from PIL import Image
from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import artifact_key, open_model
from tasks.core.clock import Throttle
from tasks.core.config.requests import TrainRequest
from tasks.core.registry.results import TrainResult
from tasks.core.training.plan import TrainPlan, plan_training
from tasks.core.training.progress import progress_line
from tasks.core.training.termination import interruptible
from tasks.progress import ProgressArtifact
from tasks.timeouts import LONG, TRAINING

if TYPE_CHECKING:
    from tasks.core.training.forecast import Forecast

LOG_SECONDS = 30.0  # between two lines of the log


class _Progress:
    """Reports the progress of a training as an artifact and in the log; server errors are reported at the end."""

    def __init__(self, key: str, steps: int) -> None:
        self.steps, self.logger = steps, get_run_logger()
        self.page = ProgressArtifact(key, f"step 0/{steps}")
        self.log = Throttle(LOG_SECONDS)

    def step(self, step: int, metrics: dict[str, float]) -> None:
        text = progress_line(step, self.steps, metrics)
        self.page.show(step, self.steps, text)
        if self.log.due() or step == self.steps:
            with self.log.action():
                self.logger.info("%s", text)

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        self.logger.info("step %d: %d sample pictures are in MLflow", step, len(pictures))

    def resumed(self, step: int) -> None:
        self.logger.info("resumes from the checkpoint of step %d", step)

    def note(self, message: str) -> None:
        self.logger.warning(message)


@task(timeout_seconds=LONG)
def plan_train(request: TrainRequest) -> TrainPlan:
    """Resolve the dataset version and the specification, before any training starts."""
    plan = plan_training(*open_model(request.model), request)
    get_run_logger().info("training %s: dataset %s version %s", plan.key, plan.dataset, plan.version)
    return plan


@task(timeout_seconds=TRAINING)
def run_training(plan: TrainPlan) -> TrainResult:
    """Train, or return the stored result of the same plan; SIGTERM writes a checkpoint first."""
    from tasks.core.training.run import train  # noqa: PLC0415  late: it imports torch, which a plan does not need

    installation, model = open_model(plan.model)
    progress = _Progress(artifact_key(plan.model, "training-progress"), plan.spec.steps)
    result = interruptible(lambda: train(installation, model, plan, progress))
    if progress.page.fault:
        get_run_logger().warning("%s", progress.page.fault)
    text = (
        f"LoRA `{result.key}` on dataset version `{result.dataset_version}`: {plan.spec.steps} steps, "
        f"loss {result.loss:.4f}, {result.steps_per_second:.2f} steps/s, MLflow run `{result.mlflow_run or 'none'}`."
    )
    create_markdown_artifact(text, key=artifact_key(plan.model, "training"), description="The trained LoRA")
    return result


@task(timeout_seconds=LONG)
def forecast_training(plan: TrainPlan) -> "Forecast":
    """Run a few real steps, and estimate the whole training."""
    from tasks.core.training.forecast import forecast, lines  # noqa: PLC0415  late, as above

    found = forecast(*open_model(plan.model), plan)
    create_markdown_artifact(
        "\n".join(f"- {line}" for line in lines(found)), key=artifact_key(plan.model, "training-forecast")
    )
    return found
