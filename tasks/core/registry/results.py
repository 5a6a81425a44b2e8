"""Results of the stages, stored under a hash of their inputs, so that equal inputs find their result."""

from collections.abc import Iterator
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
from tasks.core.store.documents import Document, digest, read_document, render


class Result(Document):
    """Fields of all results."""

    key: str
    model: str
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
    render_seconds: float = 0.0  # of them, rendering; pictures that were read from the store took none
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


class Latest(Document):
    """Points at the newest result of a stage."""

    key: str


def result_folder(model: str, kind: type[Result]) -> str:
    """Prefix of a stage's results, and of what belongs to them."""
    return f"models/{model}/results/{STAGES[kind]}/"


def checkpoint_folder(model: str, training: str) -> str:
    """Folder of a training's checkpoints and adapter."""
    return f"models/{model}/checkpoints/{training}"


def render_folder(model: str, weights: str) -> str:
    """Prefix of all pictures of an adapter of a model; `weights` is the sha256 of its weights, or `base`."""
    return f"models/{model}/renders/{weights[:16]}/"


def _place(model: str, kind: type[Result], key: str) -> str:
    return f"{result_folder(model, kind)}{key}.json"


def _pointer(model: str, kind: type[Result]) -> str:
    return f"{result_folder(model, kind)}latest"


def _mark(model: str, training: str, evaluation: str) -> str:
    """An empty object for each evaluation of a training."""
    return f"models/{model}/results/evaluations/{training}/{evaluation}"


def save_result(store: Store, result: Result) -> None:
    """Store a result under its key, and point at it as the newest of its stage."""
    model, kind = result.model, type(result)
    if isinstance(result, EvaluationResult):
        store.write(_mark(model, result.training, result.key), b"")
    store.write(_place(model, kind, result.key), render(result))
    store.write(_pointer(model, kind), render(Latest(key=result.key)))


def evaluations_of(store: Store, model: str, training: str) -> Iterator[EvaluationResult]:
    """The evaluations of a training, in the order of their keys."""
    for place in store.list(_mark(model, training, "")):
        if found := find_result(store, model, EvaluationResult, place.rpartition("/")[2]):
            yield found


def find_result(store: Store, model: str, kind: type[R], key: str) -> R | None:
    """The result of this key of a model, if the stage has completed."""
    try:
        return read_document(store, kind, _place(model, kind, key))
    except ObjectMissing:
        return None


def get_result(store: Store, model: str, kind: type[R], key: str = "") -> R:
    """The result of this key of a model, its newest one if empty; raises ResultMissing."""
    try:
        key = key or read_document(store, Latest, _pointer(model, kind)).key
        return read_document(store, kind, _place(model, kind, key))
    except ObjectMissing as error:
        raise ResultMissing(STAGES[kind], key) from error


def publication_key(model: str, generation: int) -> str:
    """The key of a publication's result."""
    return digest(model, str(generation))


def promotion_key(request: PromoteRequest, gate: GateSpec, evaluation: str) -> str:
    """The key of a promotion's result."""
    return digest(evaluation, request.gate or gate, request.actor, request.reason)
