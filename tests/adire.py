"""The example model, as tests configure it."""

from pathlib import Path

from tasks.core.config.installation import Settings, read_prefect_environment
from tasks.core.config.model import ModelConfig
from tasks.core.installation import Installation
from tasks.core.prefect_server import PrefectServer
from tasks.core.store import FolderStore, Store

NAME = "adire"


def adire(**fields: object) -> ModelConfig:
    """The embedded example, with other fields."""
    usual = {"name": NAME, "trigger": "adire_style", "class_noun": "indigo resist-dyed cloth"}
    return ModelConfig.model_validate(usual | fields)


def environments_server() -> PrefectServer:
    """The Prefect server of the environment."""
    return PrefectServer(read_prefect_environment())


def installed(store: Store | Path, **settings: object) -> Installation:
    """An installation with a store, with the environment's other settings but those given."""
    opened = FolderStore(store) if isinstance(store, Path) else store
    return Installation(Settings().model_copy(update={"store": opened.url, **settings}), opened, environments_server())
