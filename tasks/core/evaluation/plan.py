"""The plan of an evaluation: everything it depends on, and its key."""

from tasks.core.config.base import require_known
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import EvaluationSpec, GateSpec
from tasks.core.config.requests import EvaluateRequest
from tasks.core.errors import PlanMismatch, SettingError
from tasks.core.gate.statistics import Measure
from tasks.core.installation import Installation
from tasks.core.models.identity import scorer_fingerprint
from tasks.core.registry.ledger import champion
from tasks.core.registry.results import EvaluationResult, TrainResult, get_result
from tasks.core.registry.withdrawals import refuse_training
from tasks.core.store.documents import Document, digest

VERSION = "3"
Prompts = tuple[str, ...]
Wanted = dict[Measure, Prompts]  # the prompts that each measure is taken on


class EvaluationPlan(Document):
    """An evaluation with everything it depends on."""

    key: str
    model: str
    training: str
    champion_release: str  # empty: the bare base
    champion_generation: int
    fixed: Prompts
    drifted: Prompts
    class_prompts: Prompts
    general: Prompts
    report: str
    spec: EvaluationSpec
    gate: GateSpec
    scorer: str

    @property
    def wanted(self) -> Wanted:
        """The prompts that each measure is taken on."""
        return wanted(self.fixed, self.drifted, self.class_prompts + self.general)

    @property
    def pictures(self) -> int:
        """Pictures that are measured, without further seeds: those of both models, and of the base beside adapters."""
        adapters = 2 if self.champion_release else 1
        prompts = 2 * len(self.wanted["render_seconds"]) + adapters * len(self.wanted["forgetting"])
        return prompts * len(self.spec.seeds)


def wanted(fixed: Prompts, drifted: Prompts, plain: Prompts) -> Wanted:
    """The prompts that each measure is taken on; `plain` are those without the trigger."""
    styled = fixed + drifted
    return {
        "prompt_fidelity": styled,
        "style_fidelity": styled,
        "diversity": fixed,
        "forgetting": plain,
        "near_copies": styled,
        "render_seconds": tuple(dict.fromkeys(styled + plain)),
    }


def plan_evaluation(installation: Installation, model: ModelConfig, request: EvaluateRequest) -> EvaluationPlan:
    """Resolve the defaults of a request.

    Raises:
        ResultMissing: nothing was trained.
        ReleaseWithdrawn: the training was withdrawn.
        SettingError: there is no prompt by which forgetting could be measured, or a choice of a later version.
        PlanMismatch: the parent planned another evaluation.
    """
    training = request.training or get_result(installation.store, model.name, TrainResult).key
    refuse_training(installation.store, model.name, training)
    preset, scorer = model.preset, scorer_fingerprint(model.scorer)
    spec, gate = request.evaluation or preset.evaluation, request.gate or preset.gate
    require_known(spec, "evaluation")
    asked = ask(model, spec)
    drifted = tuple(p for p in dict.fromkeys(request.drifted) if p not in asked["trigger"])
    current = champion(installation.store, model.name)
    release, generation = (current.release, current.generation) if current else ("", 0)
    words = (model.trigger, model.class_noun)
    key = digest(training, release, str(generation), spec, gate, scorer, VERSION, *words, request.report, *drifted)
    if request.key not in {"", key}:
        inputs = f"champion generation {generation}, scorer {scorer}, evaluation version {VERSION}"
        raise PlanMismatch("evaluate-challenger", request.key, key, inputs)
    return EvaluationPlan(
        key=key,
        model=model.name,
        training=training,
        champion_release=release,
        champion_generation=generation,
        fixed=asked["trigger"],
        drifted=drifted,
        class_prompts=asked["class_noun"],
        general=asked["general"],
        report=request.report,
        spec=spec,
        gate=gate,
        scorer=scorer,
    )


def ask(model: ModelConfig, spec: EvaluationSpec) -> dict[str, Prompts]:
    """The prompts of each kind, filled; raises SettingError when there are none without the trigger."""
    words = {"trigger": model.trigger, "class_noun": model.class_noun, "general": ""}
    asked = {kind: spec.prompts.filled(kind, word) for kind, word in words.items()}
    if not asked["class_noun"] + asked["general"]:
        name = spec.prompts.version or "a list of prompts"
        problem = f"{name} has neither class_noun nor general prompts, so forgetting cannot be measured; add some"
        raise SettingError("evaluation.prompts", problem)
    return asked


def winning_evaluation(installation: Installation, model: ModelConfig, training: str) -> str:
    """The evaluation by which this training became the champion that it still is; empty when it did not.

    A retrain that crashed after its promotion resumes from it: compared with itself the LoRA would not be promoted.
    """
    current = champion(installation.store, model.name)
    if current is None or current.action != "promote":
        return ""
    evaluation = get_result(installation.store, model.name, EvaluationResult, current.evaluation)
    return evaluation.key if evaluation.training == training else ""
