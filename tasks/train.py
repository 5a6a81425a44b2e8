"""Training."""

from uuid import UUID

from PIL import Image
from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from tasks.context import open_context
from tasks.core.requests import TrainRequest
from tasks.core.results import TrainResult
from tasks.core.training.forecast import Forecast, forecast, lines
from tasks.core.training.plan import TrainPlan, plan_training
from tasks.core.training.run import train

EVERY = 20  # steps between two updates of the progress bar


class _Progress:
    """Shows the course of a training on the run's page."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.logger = get_run_logger()
        self.artifact = create_progress_artifact(0.0, key="training-progress", description=f"0 of {steps} steps")

    def step(self, step: int, metrics: dict[str, float]) -> None:
        if step % EVERY == 0 or step == self.steps:
            if not isinstance(self.artifact, UUID):
                raise TypeError("the progress artifact of a synchronous task has a UUID")
            said = f"{step} of {self.steps} steps, loss {metrics['loss']:.4f}"
            update_progress_artifact(self.artifact, 100 * step / self.steps, description=said)

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        self.logger.info("step %d: %d sample pictures are in MLflow", step, len(pictures))

    def resumed(self, step: int) -> None:
        self.logger.info("goes on from the checkpoint of step %d", step)

    def told(self, message: str) -> None:
        self.logger.warning(message)


@task
def plan_train(request: TrainRequest) -> TrainPlan:
    """Resolve the dataset version and the specification, before any training starts."""
    store, settings = open_context()
    plan = plan_training(store, settings, request)
    get_run_logger().info("training %s: dataset %s version %s", plan.key, plan.dataset, plan.version)
    return plan


@task
def run_training(plan: TrainPlan) -> TrainResult:
    """Train, or find the result of the same plan."""
    store, settings = open_context()
    result = train(store, settings, plan, _Progress(plan.spec.steps))
    text = (
        f"LoRA `{result.key}` on dataset version `{result.dataset_version}`: {plan.spec.steps} steps, "
        f"loss {result.loss:.4f}, {result.steps_per_second:.2f} steps/s, MLflow run `{result.mlflow_run}`."
    )
    create_markdown_artifact(text, key="training", description="The trained LoRA")
    return result


@task
def forecast_training(plan: TrainPlan) -> Forecast:
    """Do a few real steps, and tell what the whole would be."""
    store, settings = open_context()
    found = forecast(store, settings, plan)
    create_markdown_artifact("\n".join(f"- {line}" for line in lines(found)), key="training-forecast")
    return found
