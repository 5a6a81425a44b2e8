"""The document of a gate's decision, made of what the stages have kept."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest
from tasks.core.installation import Installation
from tasks.core.models.clip import Scoring
from tasks.core.registry.results import EvaluationResult, PromotionResult, TrainResult, get_result
from tasks.core.reporting.gate_page import gate_markdown, gate_page
from tasks.core.reporting.gate_text import About
from tasks.core.tracking import runs

TITLES = {"fixed": "The fixed prompts", "drifted": "Prompts of drifted traffic", "general": "Without the trigger"}


@dataclass(frozen=True)
class Written:
    """What was written, and what a run's page shows of it."""

    key: str  # of the page, in the store
    markdown: str
    grids: dict[str, bytes]  # PNGs by what they show


def write_document(
    installation: Installation, model: ModelConfig, request: PromoteRequest, result: PromotionResult
) -> Written:
    """Keep the page beside the result, and page and JSON with the evaluation in MLflow; repeatable."""
    evaluation = get_result(installation.store, model.name, EvaluationResult, result.evaluation)
    about = _about(installation, model, request, result, evaluation)
    grids = {
        f"{TITLES[kind]}: champion left, challenger right": installation.store.read(k)
        for kind, k in evaluation.grids.items()
    }
    page = gate_page(result.decision, about, grids).encode()
    key = f"results/promote/{result.key}.html"
    installation.store.write(key, page)
    run = runs.open_run(f"{model.name}-evaluate", evaluation.key, evaluation.key, {})
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"decision-{result.key}.html"
        path.write_bytes(page)
        runs.log_file(run, path)
    runs.log_document(run, result.model_dump(mode="json"), f"decision-{result.key}.json")
    return Written(key, gate_markdown(result.decision, about), grids)


def _about(
    installation: Installation,
    model: ModelConfig,
    request: PromoteRequest,
    result: PromotionResult,
    evaluation: EvaluationResult,
) -> About:
    training, spec = get_result(installation.store, model.name, TrainResult, evaluation.training), evaluation.spec
    return About(
        model=model.name,
        training=training.key,
        release=result.release,
        champion_generation=evaluation.champion_generation,
        dataset=training.dataset,
        dataset_version=training.dataset_version,
        scorer=evaluation.scorer,
        scale=_scale(evaluation.scoring) if evaluation.scoring else "",
        prompt_set=spec.prompts.version,
        prompts={kind: len(prompts) for kind, prompts in evaluation.kinds.items()},
        seeds=spec.seeds,
        held=evaluation.evidence.held,
        confidence=(request.gate or model.preset.gate).confidence,
        generation=result.generation,
        actor=request.actor,
        reason=request.reason,
        time=result.finished,
    )


def _scale(scoring: Scoring) -> str:
    """How the scorer's cosines become scores."""
    told = [f"{scoring.scale:g} * max(cosine, 0)"]
    told += [f"the prompt behind {scoring.prefix.strip()!r}"] if scoring.prefix else []
    told += [f"{scoring.trigger_as!r} for the trigger word"] if scoring.trigger_as else []
    return ", ".join(told)
