"""The whole way from a cause to a served model, each stage a run of its own deployment."""

from prefect import flow

from tasks.core.requests import RetrainRequest
from tasks.retrain import (
    compete,
    is_done,
    publish_stage,
    record_failure,
    record_outcome,
    request_training,
    train_stage,
)


@flow(name="retrain-model", on_failure=[record_failure])
def retrain_model(spec: RetrainRequest = RetrainRequest()) -> None:
    """Train, evaluate, promote and publish; a stage that has completed is not run again."""
    if is_done(spec):
        return
    training = request_training(spec)
    trained = train_stage(training)
    promotion = compete(spec, training, trained)
    publish_stage(promotion)
    record_outcome(spec, training, trained, promotion)


if __name__ == "__main__":
    retrain_model()
