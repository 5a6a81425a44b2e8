"""Evaluation."""

import base64

from prefect import get_run_logger, task
from prefect.artifacts import create_image_artifact, create_table_artifact

from tasks.context import artifact_key, open_model
from tasks.core.config.requests import EvaluateRequest
from tasks.core.evaluation.plan import EvaluationPlan, plan_evaluation
from tasks.core.installation import open_installation
from tasks.core.models.clip import Clip
from tasks.core.models.images import light
from tasks.core.registry.results import EvaluationResult, summary
from tasks.gpu import gpu_slot
from tasks.progress import ProgressArtifact
from tasks.timeouts import LONG, ON_THE_GPU


@task(timeout_seconds=LONG)
def plan_evaluate(request: EvaluateRequest) -> EvaluationPlan:
    """Resolve the training, the champion and the prompts."""
    return plan_evaluation(*open_model(request.model), request)


@task(timeout_seconds=ON_THE_GPU)
def run_evaluation(plan: EvaluationPlan) -> EvaluationResult:
    """Render and measure challenger and champion in the GPU slot, or return the stored result of the same plan."""
    from tasks.core.evaluation.run import evaluate  # noqa: PLC0415  late: it imports torch, which a plan does not need

    installation, model = open_model(plan.model)
    with gpu_slot():
        page = ProgressArtifact(artifact_key(plan.model, "evaluation-progress"), f"0 of {plan.pictures} pictures")
        clip = Clip(model, installation.settings.device)
        result = evaluate(
            installation, model, plan, clip, watch=lambda n, of: page.show(n, of, f"{n} of {of} pictures")
        )
    get_run_logger().info("evaluation %s: %s", result.key, summary(result.challenger, result.fixed))
    for refusal in result.evidence.refusals:
        get_run_logger().warning("the challenger is rejected: %s", refusal)
    return result


@task(timeout_seconds=LONG)
def show_evaluation(result: EvaluationResult) -> None:
    """Create artifacts of the table and the picture grids."""
    store = open_installation().store
    rows = [
        {"prompts": kind, "model": model, **{k: round(v, 3) for k, v in summary(scores, prompts).items()}}
        for kind, prompts in result.kinds.items()
        for model, scores in (("champion", result.champion), ("challenger", result.challenger))
    ]
    create_table_artifact(
        rows, key=artifact_key(result.model, "evaluation"), description="Means over prompts and seeds"
    )
    for kind, place in result.grids.items():
        grid = base64.b64encode(light(store.read(place))).decode()
        description = f"Champion left, challenger right: {kind} prompts"
        create_image_artifact(
            f"data:image/webp;base64,{grid}",
            key=artifact_key(result.model, f"pictures-{kind}"),
            description=description,
        )
