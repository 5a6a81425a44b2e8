"""The models of an installation: every applied configuration is stored, and the newest one is in force."""

from datetime import datetime

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.errors import DocumentInvalid, ModelUnknown
from tasks.core.store import Store
from tasks.core.store.base import is_key
from tasks.core.store.documents import Document
from tasks.core.store.journal import Journal

FOLDER = "models/"


class AppliedConfig(Document):
    """An applied configuration; the one with the highest number is in force."""

    number: int
    applied: datetime
    config: ModelConfig


def _journal(store: Store, model: str) -> Journal[AppliedConfig]:
    return Journal(store, f"{FOLDER}{model}/config/", AppliedConfig)


def model_names(store: Store) -> list[str]:
    """The models that have a configuration, sorted."""
    return [name for name in store.folders(FOLDER) if _is_configured(store, name)]


def _is_configured(store: Store, name: str) -> bool:
    return any(key.endswith(".json") for key in store.list(f"{FOLDER}{name}/config/"))


def configurations(store: Store, model: str) -> list[AppliedConfig]:
    """All configurations of a model, oldest first."""
    return _journal(store, model).read()


def configuration(store: Store, model: str) -> AppliedConfig:
    """The current configuration; raises ModelUnknown, or DocumentInvalid where it is of another model."""
    found = _journal(store, model).newest() if is_key(model) else None
    if found is None:
        raise ModelUnknown(model, model_names(store))
    if found.config.name != model:
        raise DocumentInvalid(
            f"{FOLDER}{model}/config/{found.number:06d}.json", f"it is of model {found.config.name!r}"
        )
    return found


def apply_config(store: Store, config: ModelConfig) -> AppliedConfig:
    """Make a configuration the current one; no change if it is already."""
    journal = _journal(store, config.name)
    while True:
        newest = journal.newest()
        if newest and newest.config == config:
            return newest
        applied = AppliedConfig(number=newest.number + 1 if newest else 1, applied=clock.now(), config=config)
        if journal.append(applied.number, applied):
            return applied
