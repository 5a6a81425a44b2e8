"""`dyeworks models`: the configurations of models, one YAML file each."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from deployments.cli.options import AsJson
from tasks.core.config.base import differences
from tasks.core.config.model import ModelConfig, read_model
from tasks.core.errors import DyeworksError, SettingError
from tasks.core.installation import open_installation
from tasks.core.registry.models import apply_config, configuration, configurations, model_names
from tasks.core.store import Store

app = typer.Typer(no_args_is_help=True, help="Configurations of models: apply, check, list, show, history.")
Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="YAML files, or folders of them.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]


@app.command("apply")
def apply(files: Files) -> None:
    """Apply configurations.

    Every version is stored; an unchanged configuration has no effect.
    """
    models = read_models(files)
    store = open_installation().store
    for model in models:
        print(applied(store, model))


@app.command("check")
def check(files: Files) -> None:
    """Check files without a store.

    All faults of all files are listed.
    """
    faults, seen = 0, dict[str, Path]()
    for file in expanded(files):
        try:
            print(f"{file}: model {_read_new(file, seen).name} is valid")
        except (DyeworksError, OSError) as error:
            faults += 1
            print(f"dyeworks: {' '.join(str(error).split())}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)


@app.command("list")
def list_models() -> None:
    """List the models of the store."""
    store = open_installation().store
    found = [configuration(store, name) for name in model_names(store)]
    for version in found:
        model = version.config
        print(f"{model.name}  configuration {version.number}  base {model.base}  datasets {', '.join(model.datasets)}")
    if not found:
        print("no model was applied yet: dyeworks models apply FILE")


@app.command("show")
def show(name: Name, as_json: AsJson = False) -> None:
    """Show the current configuration, as a file to apply.

    Preset and overrides are resolved into whole specifications.
    """
    model = configuration(open_installation().store, name).config
    print(model.model_dump_json(indent=2) if as_json else as_yaml(model))


@app.command("history")
def history(name: Name) -> None:
    """List what each configuration of a model changed."""
    store = open_installation().store
    configuration(store, name)
    before: ModelConfig | None = None
    for version in configurations(store, name):
        changes = "; ".join(differences(before, version.config)) if before else "applied"
        print(f"{version.number}  {version.applied:%Y-%m-%d %H:%M}  {changes}")
        before = version.config


def expanded(files: list[Path]) -> list[Path]:
    """The files, and the YAML files in folders; raises SettingError for a folder without any."""
    found = list[Path]()
    for path in files:
        inside = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
        if not inside:
            raise SettingError(str(path), "contains no YAML file")
        found += inside
    return found


def read_models(files: list[Path]) -> list[ModelConfig]:
    """The models of the files, and of those in folders; raises SettingError, also for two files of one model."""
    seen = dict[str, Path]()
    return [_read_new(file, seen) for file in expanded(files)]


def _read_new(file: Path, seen: dict[str, Path]) -> ModelConfig:
    model = read_model(file)
    if (other := seen.setdefault(model.name, file)) != file:
        raise SettingError(str(file), f"is of model {model.name}, as {other} is; keep one of the two")
    return model


def applied(store: Store, model: ModelConfig) -> str:
    """Apply a configuration; returns a description of the changes."""
    before = configuration(store, model.name) if model.name in model_names(store) else None
    now = apply_config(store, model)
    if before is None:
        return f"model {model.name}: configuration {now.number} applied"
    if now.number == before.number:
        return f"model {model.name}: unchanged (configuration {now.number})"
    changes = "; ".join(differences(before.config, model))
    return f"model {model.name}: configuration {now.number} applied: {changes}"


def as_yaml(model: ModelConfig) -> str:
    """The configuration as a file that can be applied again."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120).rstrip()
