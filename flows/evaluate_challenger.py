"""Evaluate a LoRA against the champion."""

from prefect import flow

from tasks.core.config.requests import EvaluateRequest
from tasks.evaluate import plan_evaluate, run_evaluation, show_evaluation
from tasks.labels import label_run
from tasks.timeouts import GPU_FLOW


@flow(name="evaluate-challenger", on_running=[label_run], timeout_seconds=GPU_FLOW)
def evaluate_challenger(spec: EvaluateRequest = EvaluateRequest()) -> None:
    """Render and measure challenger and champion on the same prompts and seeds."""
    plan = plan_evaluate(spec)
    result = run_evaluation(plan)
    show_evaluation(result)


if __name__ == "__main__":
    evaluate_challenger()
