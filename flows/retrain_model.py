"""Retrain: from a trigger to a published model, each stage as a run of its own deployment."""

from prefect import State, flow

from tasks.core.config.requests import RetrainRequest
from tasks.core.errors import StageCancelled
from tasks.labels import label_run
from tasks.leases import claim_retrain, lease_held
from tasks.outcomes import record_cancellation, record_failure, record_outcome
from tasks.retrain import evaluate_and_promote, publish_stage, request_training, train_stage
from tasks.timeouts import RETRAIN


@flow(name="retrain-model", on_running=[label_run], on_failure=[record_failure], timeout_seconds=RETRAIN)
def retrain_model(spec: RetrainRequest = RetrainRequest()) -> State[None] | None:
    """Train, evaluate, promote and publish; a completed or cancelled stage is not run again."""
    retrain = claim_retrain(spec)
    if retrain is None:
        return None
    with lease_held(retrain):
        try:
            training = request_training(retrain)
            trained = train_stage(training)
            promotion = evaluate_and_promote(retrain, training, trained)
            publish_stage(promotion)
        except StageCancelled as stopped:
            return record_cancellation(retrain, stopped)
        record_outcome(retrain, training, trained, promotion)
    return None


if __name__ == "__main__":
    retrain_model()
