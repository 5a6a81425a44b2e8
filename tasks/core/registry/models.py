"""The models of an installation: every applied configuration is stored, and the newest one is in force."""

from contextlib import suppress
from datetime import datetime

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.errors import DocumentInvalid, ModelUnknown, ObjectExists
from tasks.core.store import Store
from tasks.core.store.base import is_key
from tasks.core.store.documents import Document, read_document, render

FOLDER = "models/"


class AppliedConfig(Document):
    """An applied configuration; the one with the highest number is in force."""

    number: int
    applied: datetime
    config: ModelConfig


def _prefix(model: str) -> str:
    return f"{FOLDER}{model}/config/"


def model_names(store: Store) -> list[str]:
    """The models that have a configuration, sorted."""
    keys = (key.split("/") for key in store.list(FOLDER) if key.endswith(".json"))
    return sorted({key[1] for key in keys if key[2:3] == ["config"]})


def _keys(store: Store, model: str) -> list[str]:
    """Those of a model's configurations, oldest first; other files beside them are not read."""
    return [key for key in store.list(_prefix(model)) if key.endswith(".json")]


def configurations(store: Store, model: str) -> list[AppliedConfig]:
    """All configurations of a model, oldest first."""
    return [read_document(store, AppliedConfig, key) for key in _keys(store, model)]


def configuration(store: Store, model: str) -> AppliedConfig:
    """The current configuration; raises ModelUnknown, or DocumentInvalid where it is of another model."""
    keys = _keys(store, model) if is_key(model) else []
    if not keys:
        raise ModelUnknown(model, model_names(store))
    found = read_document(store, AppliedConfig, keys[-1])
    if found.config.name != model:
        raise DocumentInvalid(keys[-1], f"it is of model {found.config.name!r}")
    return found


def apply_config(store: Store, config: ModelConfig) -> AppliedConfig:
    """Make a configuration the current one; no change if it is already."""
    while True:
        keys = _keys(store, config.name)
        newest = read_document(store, AppliedConfig, keys[-1]) if keys else None
        if newest and newest.config == config:
            return newest
        applied = AppliedConfig(number=newest.number + 1 if newest else 1, applied=clock.now(), config=config)
        with suppress(ObjectExists):  # another process applied one meanwhile
            store.create(f"{_prefix(config.name)}{applied.number:06d}.json", render(applied))
            return applied
