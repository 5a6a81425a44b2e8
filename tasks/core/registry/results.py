"""Results of the stages, stored under a hash of their inputs, so that equal inputs find their result."""

from datetime import datetime
from typing import TypeVar

from pydantic import Field

from tasks.core.config.presets import EvaluationSpec, GateSpec
from tasks.core.config.requests import PromoteRequest
from tasks.core.config.training import TrainSpec
from tasks.core.errors import ObjectMissing, ResultMissing
from tasks.core.gate.decide import GateDecision
from tasks.core.gate.evidence import Evidence, ExtraSeeds
from tasks.core.gate.statistics import Scores
from tasks.core.models.clip import Scoring
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, parse, read_documents, render


class Result(Document):
    """Fields of all results."""

    key: str
    model: str = ""  # empty in results from before they named it
    finished: datetime


class TrainResult(Result):
    """A trained LoRA; its files are under `adapter` in the store."""

    dataset: str
    dataset_version: str
    spec: TrainSpec
    mlflow_run: str  # empty if MLflow was not available
    adapter: str
    loss: float
    resumed_from: int
    steps_per_second: float
    seconds: float = 0.0  # of device time, including attempts before a resume up to their checkpoints
    figures: dict[str, float] = Field(default_factory=dict)  # of Trainer.figures
    base: str = ""  # the base model's name; empty: not recorded
    held: int | None = None  # pictures that were held out; None: not recorded


class EvaluationResult(Result):
    """Paired scores of challenger and champion; generation 0 is the bare base."""

    training: str
    champion_generation: int
    spec: EvaluationSpec
    fixed: tuple[str, ...]
    drifted: tuple[str, ...]
    challenger: Scores
    champion: Scores
    traffic_from: datetime | None
    pictures: str  # the picture grid of the fixed prompts in the store
    scorer: str
    seconds: float = 0.0  # of device time
    evidence: Evidence = Evidence()
    looks: tuple[ExtraSeeds, ...] = ()  # further seeds for undecided guards
    class_prompts: tuple[str, ...] = ()  # the class without the trigger
    general: tuple[str, ...] = ()
    scoring: Scoring | None = None
    samples: str = ""  # the challenger's pictures of some fixed prompts, in the store
    grids: dict[str, str] = Field(default_factory=dict)  # picture grids in the store, by kind

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The prompts of each kind that is not empty."""
        every = {"fixed": self.fixed, "drifted": self.drifted, "general": self.class_prompts + self.general}
        return {kind: prompts for kind, prompts in every.items() if prompts}


class PromotionResult(Result):
    """The gate's decision, and the generation if promoted."""

    evaluation: str
    decision: GateDecision
    generation: int
    release: str


class PublishResult(Result):
    """The generation that the champion channel points at."""

    generation: int
    release: str
    places: dict[str, str] = Field(default_factory=dict)  # other places it was published to, with its version in each


def summary(scores: Scores, prompts: tuple[str, ...]) -> dict[str, float]:
    """The mean of each measure over these prompts, as far as it was measured on them."""
    flat = {name: [value for p in prompts for value in values.get(p, ())] for name, values in scores.items()}
    return {name: sum(values) / len(values) for name, values in flat.items() if values}


R = TypeVar("R", bound=Result)
STAGES: dict[type[Result], str] = {
    TrainResult: "train",
    EvaluationResult: "evaluate",
    PromotionResult: "promote",
    PublishResult: "publish",
}


def _place(kind: type[Result], key: str) -> str:
    return f"results/{STAGES[kind]}/{key}.json"


def save_result(store: Store, result: Result) -> None:
    """Store a result under its key."""
    store.write(_place(type(result), result.key), render(result))


def find_result(store: Store, model: str, kind: type[R], key: str) -> R | None:
    """The result of this key of a model, if the stage has completed."""
    try:
        return parse(kind, store.read(_place(kind, key)), _place(kind, key))
    except ObjectMissing:
        return None


def get_result(store: Store, model: str, kind: type[R], key: str = "") -> R:
    """The result of this key of a model, its newest one if empty; raises ResultMissing."""
    if key:
        found = find_result(store, model, kind, key)
    else:
        mine = (r for r in read_documents(store, kind, f"results/{STAGES[kind]}/") if r.model == model)
        found = max(mine, key=lambda r: r.finished, default=None)
    if found is None:
        raise ResultMissing(STAGES[kind], key)
    return found


def publication_key(model: str, generation: int) -> str:
    """The key of a publication's result."""
    return digest(model, str(generation))


def promotion_key(request: PromoteRequest, gate: GateSpec, evaluation: str) -> str:
    """The key of a promotion's result."""
    return digest(evaluation, request.gate or gate, request.actor, request.reason)
