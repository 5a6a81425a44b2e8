"""An installation: its settings, its store and its models; created at the edge of a process and passed down."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.config.installation import Settings, read_prefect_environment, read_settings
from tasks.core.config.model import ModelConfig
from tasks.core.errors import DatasetUnusable, DyeworksError, ModelUnknown, SettingError
from tasks.core.prefect_server import PrefectServer
from tasks.core.registry.models import configuration, model_names
from tasks.core.registry.store_layout import store_identity
from tasks.core.store import Store, open_store


class BasesDiffer(DyeworksError):
    """Models of different bases cannot be served by one process."""

    def __init__(self, bases: dict[str, str]) -> None:
        listed = ", ".join(f"{name} ({base})" for name, base in bases.items())
        super().__init__(f"a storefront serves the models of one base, and there are {listed}: name some with --model")
        self.bases = bases


@dataclass(frozen=True)
class Installation:
    """Passed to all of core; nothing in core reads settings from anywhere else."""

    settings: Settings
    store: Store
    server: PrefectServer = field(default_factory=PrefectServer)  # the default one is not configured

    def model(self, name: str = "") -> ModelConfig:
        """The current configuration of a model, of the only one where none is named.

        Raises:
            ModelUnknown: there is no such model, or none is named and there is not just one.
        """
        if name:
            return configuration(self.store, name).config
        names = model_names(self.store)
        if len(names) != 1:
            raise ModelUnknown(name, names)
        return configuration(self.store, names[0]).config

    def models(self) -> list[ModelConfig]:
        """The current configurations of all models, by name."""
        return [configuration(self.store, name).config for name in model_names(self.store)]

    def subscribers(self, dataset: str) -> list[ModelConfig]:
        """The models that subscribe to a dataset, by name; raises DatasetUnusable where none does."""
        models = self.models()
        found = [model for model in models if dataset in model.datasets]
        if not found:
            known = ", ".join(sorted({name for model in models for name in model.datasets})) or "none"
            raise DatasetUnusable(dataset, f"no model subscribes to it; datasets of the models: {known}")
        return found

    def only_dataset(self) -> str:
        """The dataset that is meant where none is named; raises SettingError unless all models share a single one."""
        names = sorted({name for model in self.models() for name in model.datasets})
        if len(names) != 1:
            known = f"there are {', '.join(names)}" if names else "no model was applied yet"
            raise SettingError("spec.dataset", f"name a dataset; {known}")
        return names[0]


def open_installation(settings: Settings | None = None) -> Installation:
    """The installation of these settings, of the environment's by default, with the environment's Prefect server.

    Raises:
        StoreUnusable, StoreLayoutUnreadable: the store cannot be opened, or is of another version of dyeworks.
    """
    installation = unopened_installation(settings or read_settings(), create=True)
    store_identity(installation.store)
    return installation


def unopened_installation(settings: Settings, create: bool = False) -> Installation:
    """The installation of these settings, whose store was not read yet: it may be away, or of another version."""
    store = open_store(settings.store, create)
    return Installation(settings, store, PrefectServer(read_prefect_environment(), Path.cwd()))


def of_one_base(configs: Sequence[ModelConfig], names: Sequence[str] = ()) -> list[ModelConfig]:
    """The models that one process serves: those that are named, else all.

    Raises:
        ModelUnknown: one that is named isn't there, or there is none.
        BasesDiffer: they have different bases.
    """
    known = {config.name: config for config in configs}
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        raise ModelUnknown("".join(unknown[:1]), sorted(known))
    chosen = [known[name] for name in names] or list(configs)
    if len({config.base for config in chosen}) > 1:
        raise BasesDiffer({config.name: config.base for config in chosen})
    return chosen
