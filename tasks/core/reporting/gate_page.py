"""The gate's decision as a document: Markdown for Prefect and MLflow, one HTML file in the store."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest
from tasks.core.gate.checks import Check
from tasks.core.gate.decide import GateDecision
from tasks.core.gate.statistics import LESS_IS_BETTER
from tasks.core.installation import Installation
from tasks.core.models.clip import Scoring
from tasks.core.registry.results import EvaluationResult, PromotionResult, TrainResult, get_result, result_folder
from tasks.core.reporting import gate_words
from tasks.core.reporting.gate_text import About, compared, follows, headline, measures, outcome, reading, sentence
from tasks.core.reporting.rendering import image, render_template
from tasks.core.tracking import runs

WIDTH, EDGE = 220, 8  # of the drawing, in its units
REACH = 2.0  # margins on either side


@dataclass(frozen=True)
class Span:
    """x coordinates of an interval's drawing; better is to the right."""

    zero: float
    limit: float
    start: float
    end: float
    value: float
    width: int = WIDTH
    edge: int = EDGE


@dataclass(frozen=True)
class CheckRow:
    """A check as a row of a table."""

    label: str
    role: str
    figure: str
    interval: str
    found: str
    allowed: str
    verdict: str
    result: str  # CSS class of the colour
    span: Span


def gate_markdown(decision: GateDecision, about: About) -> str:
    """The document as Markdown, for Prefect's artifacts, MLflow and messages."""
    return render_template(
        "gate.md",
        headline=headline(decision, about),
        sentence=sentence(decision, about),
        notes=decision.notes,
        compared=compared(decision, about),
        rows=[_row(check) for check in _ordered(decision)],
        reading=reading(about),
        measures=measures(decision),
        follows=follows(decision, about),
    )


def gate_page(decision: GateDecision, about: About, grids: Mapping[str, bytes]) -> str:
    """The document as one HTML file; `grids` are PNGs by title."""
    limits = [check for check in decision.checks if check.low is None]
    refused = [check.says for check in limits] if limits and limits[0].name == "refused" else []
    return render_template(
        "gate.html",
        about=about,
        outcome=outcome(decision, about),
        headline=headline(decision, about),
        sentence=sentence(decision, about),
        notes=decision.notes,
        compared=compared(decision, about),
        differences=[_row(check) for check in _ordered(decision) if check.low is not None],
        refused=refused,
        limits=[_row(check) for check in limits],
        grids={title: image(data) for title, data in grids.items()},
        reading=reading(about),
        measures=measures(decision),
        follows=follows(decision, about),
    )


def _ordered(decision: GateDecision) -> list[Check]:
    """The checks of superiority first, then the guards, then the limits, then kinds of later versions."""
    kinds = gate_words.KINDS
    return sorted(decision.checks, key=lambda c: kinds.index(c.kind) if c.kind in kinds else len(kinds))


def _row(check: Check) -> CheckRow:
    return CheckRow(
        label=gate_words.label(check),
        role=gate_words.role(check),
        figure=gate_words.figure(check, check.value, signed=True),
        interval=gate_words.interval(check),
        found=gate_words.found(check),
        allowed=gate_words.allowed(check),
        verdict=gate_words.verdict(check),
        result=check.verdict,
        span=span(check),
    )


def span(check: Check) -> Span:
    """The drawing of a check's interval."""
    low, high, limit = check.low or 0.0, check.high or 0.0, check.limit
    sign = -1 if check.measure in LESS_IS_BETTER else 1
    unit = abs(limit) or max(abs(low), abs(high)) / (0.9 * REACH) or 1.0
    start, end = sorted((_place(sign * low / unit), _place(sign * high / unit)))
    barred, zero, value = (_place(sign * v / unit) for v in (limit, 0.0, check.value))
    return Span(zero, barred, start, end, value)


def _place(margins: float) -> float:
    """x coordinate of a difference in margins, clipped to the edges."""
    inside = max(-REACH, min(REACH, margins))
    return EDGE + (inside + REACH) / (2 * REACH) * (WIDTH - 2 * EDGE)


TITLES = {"fixed": "The fixed prompts", "drifted": "Prompts of drifted traffic", "general": "Without the trigger"}


@dataclass(frozen=True)
class DecisionDocument:
    """A decision document that was written."""

    key: str  # of the page, in the store
    markdown: str
    grids: dict[str, bytes]  # PNGs by title


def write_document(
    installation: Installation, model: ModelConfig, request: PromoteRequest, result: PromotionResult
) -> DecisionDocument:
    """Store the page beside the result, and log page and JSON to the evaluation's MLflow run; idempotent."""
    evaluation = get_result(installation.store, model.name, EvaluationResult, result.evaluation)
    about = _about(installation, model, request, result, evaluation)
    grids = {
        f"{TITLES[kind]}: champion left, challenger right": installation.store.read(k)
        for kind, k in evaluation.grids.items()
    }
    page = gate_page(result.decision, about, grids).encode()
    key = f"{result_folder(model.name, PromotionResult)}{result.key}.html"
    installation.store.write(key, page)
    run = runs.open_run(f"{model.name}-evaluate", evaluation.key, evaluation.key, {})
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"decision-{result.key}.html"
        path.write_bytes(page)
        runs.log_file(run, path)
    runs.log_document(run, result.model_dump(mode="json"), f"decision-{result.key}.json")
    return DecisionDocument(key, gate_markdown(result.decision, about), grids)


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
    parts = [f"{scoring.scale:g} * max(cosine, 0)"]
    parts += [f"the prompt behind {scoring.prefix.strip()!r}"] if scoring.prefix else []
    parts += [f"{scoring.trigger_as!r} for the trigger word"] if scoring.trigger_as else []
    return ", ".join(parts)
