"""Train a LoRA on a dataset version."""

from prefect import flow

from tasks.core.config.requests import TrainRequest
from tasks.labels import label_run
from tasks.timeouts import TRAINING_FLOW
from tasks.train import forecast_training, plan_train, run_training


@flow(name="train-lora", on_running=[label_run], timeout_seconds=TRAINING_FLOW)
def train_lora(spec: TrainRequest = TrainRequest()) -> None:
    """Train a LoRA, or resume from its newest checkpoint."""
    plan = plan_train(spec)
    if spec.dry_run:
        forecast_training(plan)
    else:
        run_training(plan)


if __name__ == "__main__":
    train_lora()
