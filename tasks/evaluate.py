"""Evaluation."""

import base64

from prefect import get_run_logger, task
from prefect.artifacts import create_image_artifact, create_table_artifact

from tasks.context import open_context
from tasks.core.clip import Clip
from tasks.core.evaluation.plan import EvaluationPlan, plan_evaluation
from tasks.core.evaluation.run import evaluate
from tasks.core.requests import EvaluateRequest
from tasks.core.results import EvaluationResult, summary


@task
def plan_evaluate(request: EvaluateRequest) -> EvaluationPlan:
    """Resolve the training, the champion and the prompts."""
    store, settings = open_context()
    return plan_evaluation(store, settings, request)


@task
def run_evaluation(plan: EvaluationPlan) -> EvaluationResult:
    """Render and measure challenger and champion, or find the result of the same plan."""
    store, settings = open_context()
    result = evaluate(store, settings, plan, Clip(settings))
    get_run_logger().info("evaluation %s: %s", result.key, summary(result.challenger, result.fixed))
    return result


@task
def show_evaluation(result: EvaluationResult) -> None:
    """Put the table and the picture grid on the run's page."""
    store, _ = open_context()
    rows = []
    for name, prompts in (("fixed", result.fixed), ("drifted", result.drifted)):
        if prompts:
            for model, scores in (("champion", result.champion), ("challenger", result.challenger)):
                means = {k: round(v, 3) for k, v in summary(scores, prompts).items()}
                rows.append({"prompts": name, "model": model, **means})
    create_table_artifact(rows, key="evaluation", description="Means over prompts and seeds")
    grid = base64.b64encode(store.read(result.pictures)).decode()
    create_image_artifact(
        f"data:image/png;base64,{grid}", key="pictures", description="Champion left, challenger right"
    )
