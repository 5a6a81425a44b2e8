"""The ledger as MLflow's registry shows it: a version for each release, with its tags, and three aliases.

All of it follows from the ledger and the evaluations, so it can be made again at any time.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest
from tasks.core.errors import ReleaseWithdrawn, ResultMissing
from tasks.core.installation import Installation
from tasks.core.registry.ledger import Entry, history, served
from tasks.core.registry.releases import fetch_release
from tasks.core.registry.results import (
    EvaluationResult,
    PromotionResult,
    TrainResult,
    find_result,
    get_result,
    promotion_key,
)
from tasks.core.registry.withdrawals import withdrawals
from tasks.core.store import Store
from tasks.core.tracking import runs

ALIASES = ("champion", "previous", "challenger")


class RegisteredModel:
    """The registered model and its versions, by number; `changes` tells what was done to them.

    Of two versions that processes made at once the lower counts.
    """

    def __init__(self, model: str) -> None:
        self.model, self.client, self.changes = model, MlflowClient(), list[str]()
        try:
            self.client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self.tags = self._read()

    def _read(self) -> dict[str, dict[str, str]]:
        versions = self.client.search_model_versions(f"name = '{self.model}'")
        return {str(v.version): dict(v.tags) for v in versions}

    def of_release(self, release: str) -> str:
        """The version of a release; empty where there is none."""
        return _lowest(n for n, tags in self.tags.items() if release and tags.get("release") == release)

    def of_training(self, training: str) -> str:
        """The version of a training that is no release; empty where there is none."""
        mine = (n for n, tags in self.tags.items() if training and tags.get("training") == training)
        return _lowest(n for n in mine if not self.tags[n].get("release"))

    def make(self, run: str, tags: Mapping[str, str]) -> str:
        """A new version, unless another process made one with these tags meanwhile; the number of that which counts."""
        made = self.client.create_model_version(self.model, f"runs:/{run}/adapter", run, tags=dict(tags))
        number, self.tags = str(made.version), self._read()
        first = _lowest(n for n, told in self.tags.items() if tags.items() <= told.items())
        if first != number:
            self.client.delete_model_version(self.model, number)
            del self.tags[number]
            return first
        self.changes.append(f"MLflow: version {number} made")
        return number

    def describe(self, number: str, tags: Mapping[str, str], reason: str = "") -> None:
        """Set those tags of a version that are other, and its description with them."""
        other = {name: value for name, value in tags.items() if self.tags[number].get(name) != value}
        for name, value in other.items():
            self.client.set_model_version_tag(self.model, number, name, value)
        if reason and other:
            self.client.update_model_version(self.model, number, reason)
        if other:
            self.tags[number] |= other
            self.changes.append(f"MLflow: version {number}: {', '.join(other)}")

    def point(self, wanted: Mapping[str, str]) -> None:
        """Set each alias to the version it is to name, or take it away."""
        held = self.client.get_registered_model(self.model).aliases
        for alias, number in wanted.items():
            if number == str(held.get(alias, "")):
                continue
            if number:
                self.client.set_registered_model_alias(self.model, alias, number)
            else:
                self.client.delete_registered_model_alias(self.model, alias)
            self.changes.append(f"MLflow: {alias} is {f'version {number}' if number else 'nothing'}")


def sync_mlflow_registry(installation: Installation, model: ModelConfig) -> list[str]:
    """Bring versions, tags and aliases in line with the ledger; what was changed."""
    entries = history(installation.store, model.name)
    shelf = RegisteredModel(model.name)
    for entry in {e.release: e for e in entries if e.action != "roll_back"}.values():
        _show(installation, model, shelf, entry)
    for taken in withdrawals(installation.store, model.name):
        if number := shelf.of_release(taken.release):
            shelf.describe(number, {"withdrawn": f"{taken.actor}: {taken.reason}"})
    champion, previous = (shelf.of_release(release) for release in _served(entries))
    challenger = _challenger(installation, model, shelf, champion)
    shelf.point(dict(zip(ALIASES, (champion, previous, challenger), strict=True)))
    return shelf.changes


def _lowest(numbers: Iterable[str]) -> str:
    """The first of these versions; empty where there is none."""
    return min(numbers, key=int, default="")


def _served(entries: Sequence[Entry]) -> tuple[str, str]:
    """The release that is served, and the one that was before it; empty for the bare base."""
    champion = served(entries)
    return champion, next((e.release for e in reversed(entries) if e.release != champion), "")


def _show(installation: Installation, model: ModelConfig, shelf: RegisteredModel, entry: Entry) -> None:
    """The version of a release; that of its challenger becomes it."""
    number = shelf.of_release(entry.release)
    if "training" not in shelf.tags.get(number, ()):  # never shown, or cut off while it was
        training = _training(installation.store, model.name, entry.evaluation) if entry.evaluation else None
        key = training.key if training else ""
        number = number or shelf.of_training(key)
        if not number:
            run = (training.mlflow_run if training else "") or _adoption(installation, model, entry)
            number = shelf.make(run, {"release": entry.release})
        shelf.describe(number, {"release": entry.release, "training": key}, entry.reason)
    shelf.describe(number, _told(entry), entry.reason)


def _told(entry: Entry) -> dict[str, str]:
    """The tags that the ledger gives a version."""
    return {
        "generation": str(entry.generation),
        "dataset": entry.dataset_version,
        "action": entry.action,
        "actor": entry.actor,
        "evaluation": entry.evaluation,
        "verdict": "promote" if entry.actor == "gate" else "a person's",
    }


def _training(store: Store, model: str, evaluation: str) -> TrainResult:
    return get_result(store, model, TrainResult, get_result(store, model, EvaluationResult, evaluation).training)


def _adoption(installation: Installation, model: ModelConfig, entry: Entry) -> str:
    """A run of its own for a LoRA that was trained elsewhere, or while MLflow was away, with its files."""
    parameters = {"release": entry.release, "actor": entry.actor}
    run = runs.open_run(f"{model.name}-adopt", entry.release, f"adopt-{entry.release}", parameters)
    with tempfile.TemporaryDirectory() as folder, suppress(ReleaseWithdrawn):
        for name in fetch_release(installation.store, model.name, entry.release, Path(folder)).files:
            runs.log_file(run, Path(folder) / name, "adapter")
    runs.close_run(run, {})
    return run


def _challenger(installation: Installation, model: ModelConfig, shelf: RegisteredModel, champion: str) -> str:
    """The version of what was evaluated last, unless that is the champion; empty where there is none."""
    store = installation.store
    try:
        evaluation = get_result(store, model.name, EvaluationResult)
    except ResultMissing:
        return ""
    released = next(
        (n for n, t in shelf.tags.items() if t.get("training") == evaluation.training and "release" in t), ""
    )
    if released:
        return "" if released == champion or "withdrawn" in shelf.tags[released] else released
    training = get_result(store, model.name, TrainResult, evaluation.training)
    done = find_result(
        store, model.name, PromotionResult, promotion_key(PromoteRequest(), model.preset.gate, evaluation.key)
    )
    number = shelf.of_training(training.key)
    if not number and not training.mlflow_run:  # MLflow was away while it was trained
        return ""
    number = number or shelf.make(training.mlflow_run, {"training": training.key})
    verdict = {"verdict": done.decision.verdict} if done else {}
    tags = {"evaluation": evaluation.key, "dataset": training.dataset_version, **verdict}
    shelf.describe(number, tags, done.decision.reason if done else "evaluated")
    return number
