"""Further looks: more seeds for the guards of the gate that cannot tell yet, and for these alone."""

from tasks.core.evaluation.measures import Measurer
from tasks.core.evaluation.plan import EvaluationPlan, Wanted
from tasks.core.evaluation.session import ComparedModels, EvaluatedModel
from tasks.core.gate.checks import Check
from tasks.core.gate.decide import settle, unsure
from tasks.core.gate.evidence import Evidence, ExtraSeeds
from tasks.core.gate.statistics import Measure, Scores, Values


def take_extra_seeds(
    plan: EvaluationPlan, pair: ComparedModels, measurer: Measurer, scores: tuple[Scores, Scores], evidence: Evidence
) -> tuple[ExtraSeeds, ...]:
    """Looks until no guard is unsure, or each has had all that it may take."""
    looks: list[ExtraSeeds] = []
    for number in range(1, plan.gate.max_looks + 1):
        decision = settle(*scores, plan.gate, looks, evidence=evidence)
        for check in unsure(decision):
            ours, theirs = (_values(plan, model, measurer, check, number) for model in (pair.challenger, pair.champion))
            looks.append(ExtraSeeds(check=check.name, challenger=ours, champion=theirs))
    return tuple(looks)


def _values(plan: EvaluationPlan, model: EvaluatedModel, measurer: Measurer, check: Check, look: int) -> Values:
    if check.measure is None:
        return {}
    wanted: Wanted = {check.measure: prompts_of(plan, check.measure)}
    return measurer.measure(model, wanted, seeds_of(plan, look)).scores[check.measure]


def seeds_of(plan: EvaluationPlan, look: int) -> tuple[int, ...]:
    """The seeds of a further look, counted from 1: as many as the first look's, and none of those of any other."""
    first, count = max(plan.spec.seeds) + 1, len(plan.spec.seeds)
    return tuple(range(first + (look - 1) * count, first + look * count))


def prompts_of(plan: EvaluationPlan, measure: Measure) -> tuple[str, ...]:
    """The prompts that a guard looks at; prompt fidelity is guarded on the fixed ones alone."""
    return plan.fixed if measure == "prompt_fidelity" else plan.wanted[measure]
