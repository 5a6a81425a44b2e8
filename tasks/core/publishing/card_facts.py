"""The facts of a model card, from the stages' results; deterministic."""

from dataclasses import dataclass

from tasks.core.config.model import EMBEDDED, ModelConfig
from tasks.core.config.presets import GateSpec
from tasks.core.config.training import TrainSpec
from tasks.core.gate.checks import interval
from tasks.core.gate.decide import GateDecision
from tasks.core.gate.statistics import MEASURES, Measure, Scores, Values
from tasks.core.models.clip import PREFIX
from tasks.core.models.identity import is_hub_name
from tasks.core.registry.releases import ReleaseManifest
from tasks.core.registry.results import EvaluationResult, TrainResult


@dataclass(frozen=True)
class Figure:
    """A measure of the model with its interval, and of the compared model if both were measured."""

    measure: Measure
    value: float
    low: float
    high: float
    compared: float | None = None
    difference: tuple[float, float, float] | None = None  # with its interval


@dataclass(frozen=True)
class Evaluated:
    """The comparison of the model and the gate's decision."""

    champion: int  # the generation it was compared with; 0: the bare base
    figures: tuple[Figure, ...]
    confidence: float
    prompts: tuple[str, ...]  # the fixed ones; visitors' prompts are not published
    drifted: int  # further prompts, of visitors
    seeds: int
    steps: int
    guidance: float
    scorer: str
    prefix: str  # of the scored prompts
    decision: GateDecision
    overruled: str = ""  # the reason of the person who overruled the gate
    held: int | None = None  # held-out pictures for style fidelity, as in Evidence


@dataclass(frozen=True)
class CardFacts:
    """The content of a card."""

    model: str
    repo: str  # on the Hub; empty: none
    trigger: str
    class_noun: str
    licence: str
    base: str  # a Hub id; empty: the base is in a folder
    base_revision: str
    base_name: str  # of a base in a folder: its kind, and the hash of its weights
    prompts: tuple[str, ...]  # examples
    dataset: str = ""
    dataset_version: str = ""
    pictures: int = 0
    held: int | None = None  # of them held out of the training; None: not recorded
    training: str = ""
    trained: TrainSpec | None = None  # None: adopted
    evaluated: Evaluated | None = None


def facts_of(
    model: ModelConfig,
    manifest: ReleaseManifest,
    *,
    pictures: int = 0,
    training: TrainResult | None = None,
    evaluation: EvaluationResult | None = None,
    decision: GateDecision | None = None,
    spec: GateSpec = GateSpec(),
    overruled: str = "",
) -> CardFacts:
    """The facts of a release; an adopted one has neither training nor evaluation.

    Args:
        pictures: of the dataset version.
        spec: the gate's, for the intervals.
        overruled: the reason of the person who overruled the gate.
    """
    local = not is_hub_name(manifest.base_model)
    name, _, revision = manifest.base_model.partition("@")
    sample = training.spec.sample_prompt.replace("{trigger}", model.trigger) if training else ""
    evaluated = _evaluated(model, evaluation, decision, spec, overruled) if evaluation and decision else None
    return CardFacts(
        model=model.name,
        repo=model.publishing.hub_repo,
        trigger=manifest.trigger,
        class_noun=model.class_noun,
        licence=model.licence,
        base="" if local else name,
        base_revision="" if local else revision,
        base_name=manifest.base_model if local else "",
        prompts=(evaluated.prompts[:3] if evaluated else ()) or ((sample or f"a picture in {manifest.trigger}"),),
        dataset=manifest.dataset,
        dataset_version=manifest.dataset_version,
        pictures=pictures,
        held=training.held if training else None,
        training=manifest.training,
        trained=training.spec if training else None,
        evaluated=evaluated,
    )


def _evaluated(
    model: ModelConfig, evaluation: EvaluationResult, decision: GateDecision, spec: GateSpec, overruled: str
) -> Evaluated:
    figures = (_figure(m, evaluation.challenger, evaluation.champion, spec) for m in MEASURES)
    return Evaluated(
        champion=evaluation.champion_generation,
        figures=tuple(figure for figure in figures if figure),
        confidence=spec.confidence,
        prompts=evaluation.fixed,
        drifted=len(evaluation.drifted),
        seeds=len(evaluation.spec.seeds),
        steps=evaluation.spec.steps,
        guidance=evaluation.spec.guidance,
        scorer=evaluation.scorer,
        prefix="" if model.scorer == EMBEDDED else PREFIX,
        decision=decision,
        overruled=overruled,
        held=evaluation.evidence.held,
    )


def _figure(measure: Measure, challenger: Scores, champion: Scores, spec: GateSpec) -> Figure | None:
    """A measure with its interval over the prompts, and the paired difference where the prompts are the same."""
    ours, theirs = challenger.get(measure), champion.get(measure)
    if not ours:
        return None
    prompts = tuple(ours)
    nothing: Values = dict.fromkeys(prompts, (0.0,))
    value, low, high = interval(ours, nothing, (prompts,), spec)
    if not theirs or set(theirs) != set(ours):
        return Figure(measure, value, low, high)
    difference = interval(ours, theirs, (prompts,), spec)
    return Figure(measure, value, low, high, value - difference[0], difference)
