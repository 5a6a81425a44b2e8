"""What an evaluation depends on, and the key that follows from it."""

from tasks.core.documents import Document, digest
from tasks.core.models import scorer_fingerprint
from tasks.core.registry.ledger import champion
from tasks.core.requests import EvaluateRequest
from tasks.core.results import EvaluationResult, TrainResult, get_result
from tasks.core.settings import Settings
from tasks.core.specs import EvaluationSpec, load_preset
from tasks.core.store import Store

VERSION = "1"


class EvaluationPlan(Document):
    """An evaluation with everything it depends on."""

    key: str
    training: str
    champion_release: str
    champion_generation: int
    fixed: tuple[str, ...]
    drifted: tuple[str, ...]
    report: str
    spec: EvaluationSpec
    scorer: str


def plan_evaluation(store: Store, settings: Settings, request: EvaluateRequest) -> EvaluationPlan:
    """Resolve what is left open; raises ResultMissing when nothing was trained."""
    training = request.training or get_result(store, TrainResult).key
    scorer = scorer_fingerprint(settings)
    spec = request.evaluation or load_preset().evaluation
    fixed = tuple(prompt.format(trigger=settings.trigger) for prompt in spec.prompts)
    current = champion(store, settings.model)
    release, generation = (current.release, current.generation) if current else ("", 0)
    key = digest(training, release, str(generation), spec, scorer, VERSION, request.report, *request.drifted)
    return EvaluationPlan(
        key=key,
        training=training,
        champion_release=release,
        champion_generation=generation,
        fixed=fixed,
        drifted=tuple(p for p in request.drifted if p not in fixed),
        report=request.report,
        spec=spec,
        scorer=scorer,
    )


def won_with(store: Store, settings: Settings, training: str) -> str:
    """The evaluation by which this training became the champion that it still is; empty when it did not.

    A retrain that was cut off after its promotion finds it here: compared with itself it would be kept out.
    """
    current = champion(store, settings.model)
    if current is None or current.action != "promote":
        return ""
    evaluation = get_result(store, EvaluationResult, current.evaluation)
    return evaluation.key if evaluation.training == training else ""
