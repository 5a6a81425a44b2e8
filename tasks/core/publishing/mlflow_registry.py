"""Projection of the ledger to MLflow's registry: a version for each release, with its tags, and three aliases.

All of it is derived from the ledger and the evaluations, so it can be rebuilt at any time.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest
from tasks.core.errors import ReleaseIncomplete, ReleaseWithdrawn, ResultMissing
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
from tasks.core.tracking import runs

ALIASES = ("champion", "previous", "challenger")


class RegisteredModel:
    """The registered model and its versions, by number; `changes` lists what was done to them.

    Of two versions created concurrently the lower is used.
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
        """The version of a release; empty if there is none."""
        return _lowest(n for n, tags in self.tags.items() if release and tags.get("release") == release)

    def of_training(self, training: str) -> str:
        """The version of a training that is no release; empty if there is none."""
        mine = (n for n, tags in self.tags.items() if training and tags.get("training") == training)
        return _lowest(n for n in mine if not self.tags[n].get("release"))

    def create(self, run: str, tags: Mapping[str, str]) -> str:
        """Create a version unless another process did so with these tags meanwhile; returns the number used."""
        made = self.client.create_model_version(self.model, f"runs:/{run}/adapter", run, tags=dict(tags))
        number, self.tags = str(made.version), self._read()
        first = _lowest(n for n, present in self.tags.items() if tags.items() <= present.items())
        if first != number:
            self.client.delete_model_version(self.model, number)
            del self.tags[number]
            return first
        self.changes.append(f"MLflow: version {number} created")
        return number

    def describe(self, number: str, tags: Mapping[str, str], reason: str = "") -> None:
        """Set the tags of a version that differ, and with them its description."""
        changed = {name: value for name, value in tags.items() if self.tags[number].get(name) != value}
        for name, value in changed.items():
            self.client.set_model_version_tag(self.model, number, name, value)
        if reason and changed:
            self.client.update_model_version(self.model, number, reason)
        if changed:
            self.tags[number] |= changed
            self.changes.append(f"MLflow: version {number}: {', '.join(changed)}")

    def point(self, wanted: Mapping[str, str]) -> None:
        """Set or delete each alias."""
        current = self.client.get_registered_model(self.model).aliases
        for alias, number in wanted.items():
            if number == str(current.get(alias, "")):
                continue
            if number:
                self.client.set_registered_model_alias(self.model, alias, number)
            else:
                self.client.delete_registered_model_alias(self.model, alias)
            self.changes.append(f"MLflow: alias {alias} {f'set to version {number}' if number else 'deleted'}")


def sync_mlflow_registry(installation: Installation, model: ModelConfig) -> list[str]:
    """Update versions, tags and aliases from the ledger; returns the changes, as messages."""
    entries = history(installation.store, model.name)
    registered = RegisteredModel(model.name)
    for entry in {e.release: e for e in entries if e.release and e.action != "roll_back"}.values():
        _show(installation, model, registered, entry)
    for taken in withdrawals(installation.store, model.name):
        if number := registered.of_release(taken.release):
            registered.describe(number, {"withdrawn": f"{taken.actor}: {taken.reason}"})
    champion, previous = (registered.of_release(release) for release in _served(entries))
    challenger = _challenger(installation, model, registered, champion)
    registered.point(dict(zip(ALIASES, (champion, previous, challenger), strict=True)))
    return registered.changes


def _lowest(numbers: Iterable[str]) -> str:
    """The lowest of these versions; empty if there is none."""
    return min(numbers, key=int, default="")


def _served(entries: Sequence[Entry]) -> tuple[str, str]:
    """The release that is served, and the one before it; empty for the bare base."""
    champion = served(entries)
    return champion, next((e.release for e in reversed(entries) if e.release != champion), "")


def _show(installation: Installation, model: ModelConfig, registered: RegisteredModel, entry: Entry) -> None:
    """Create or update the version of a release; its challenger's version is reused."""
    number = registered.of_release(entry.release)
    if "training" not in registered.tags.get(number, ()):  # not described yet, or interrupted
        training = find_result(installation.store, model.name, TrainResult, entry.training) if entry.training else None
        key = entry.training
        number = number or registered.of_training(key)
        if not number:
            run = (training.mlflow_run if training else "") or _adoption(installation, model, entry)
            number = registered.create(run, {"release": entry.release})
        registered.describe(number, {"release": entry.release, "training": key}, entry.reason)
    registered.describe(number, _ledger_tags(entry), entry.reason)


def _ledger_tags(entry: Entry) -> dict[str, str]:
    """The tags of a version from the ledger."""
    return {
        "generation": str(entry.generation),
        "dataset": entry.dataset_version,
        "action": entry.action,
        "actor": entry.actor,
        "evaluation": entry.evaluation,
        "verdict": "promote" if entry.actor == "gate" else "a person's",
    }


def _adoption(installation: Installation, model: ModelConfig, entry: Entry) -> str:
    """A run with the files of a LoRA that was trained elsewhere, or while MLflow was not available; none if swept."""
    parameters = {"release": entry.release, "actor": entry.actor}
    run = runs.open_run(f"{model.name}-adopt", entry.release, f"adopt-{entry.release}", parameters)
    with tempfile.TemporaryDirectory() as folder, suppress(ReleaseWithdrawn, ReleaseIncomplete):
        for name in fetch_release(installation.store, model.name, entry.release, Path(folder)).files:
            runs.log_file(run, Path(folder) / name, "adapter")
    runs.close_run(run, {})
    return run


def _challenger(installation: Installation, model: ModelConfig, registered: RegisteredModel, champion: str) -> str:
    """The version of the last evaluated training, unless it is the champion; empty if there is none."""
    store = installation.store
    try:
        evaluation = get_result(store, model.name, EvaluationResult)
    except ResultMissing:
        return ""
    released = next(
        (n for n, t in registered.tags.items() if t.get("training") == evaluation.training and "release" in t), ""
    )
    if released:
        return "" if released == champion or "withdrawn" in registered.tags[released] else released
    training = get_result(store, model.name, TrainResult, evaluation.training)
    done = find_result(
        store, model.name, PromotionResult, promotion_key(PromoteRequest(), model.preset.gate, evaluation.key)
    )
    number = registered.of_training(training.key)
    if not number and not training.mlflow_run:  # MLflow was not available during the training
        return ""
    number = number or registered.create(training.mlflow_run, {"training": training.key})
    verdict = {"verdict": done.decision.verdict} if done else {}
    tags = {"evaluation": evaluation.key, "dataset": training.dataset_version, **verdict}
    registered.describe(number, tags, done.decision.reason if done else "evaluated")
    return number
