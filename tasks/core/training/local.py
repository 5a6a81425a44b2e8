"""A training without any server: a store under one folder, the pictures of another, MLflow in a file."""

import logging
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import mlflow

from tasks.core.config.base import differences, read_yaml
from tasks.core.config.installation import Settings, read_settings
from tasks.core.config.model import ModelConfig, read_model
from tasks.core.config.presets import load_preset
from tasks.core.config.requests import TrainRequest
from tasks.core.data.captioning import open_captioner
from tasks.core.data.dataset import index_key, remarks
from tasks.core.data.file_kinds import SUFFIXES, sort_uploads
from tasks.core.data.ingest import ingest
from tasks.core.data.remarks import grouped
from tasks.core.errors import SettingError, Terminated
from tasks.core.installation import Installation
from tasks.core.registry.results import TrainResult, checkpoint_folder
from tasks.core.store import FolderStore, Store, delete_prefix, download_folder, is_key, walk
from tasks.core.store.documents import parse, render
from tasks.core.training.checkpoints import newest_step
from tasks.core.training.forecast import forecast, lines
from tasks.core.training.plan import TrainPlan, plan_training
from tasks.core.training.progress import print_line, progress
from tasks.core.training.run import train

TRIGGER = "adire_style"  # default for a preset without a model


def train_folder(spec: str, data: Path, out: Path, *, dry_run: bool = False, base: str = "", trigger: str = "") -> None:
    """Ingest the folder, train, and copy the adapter to `out`; with `dry_run` only print what the training would be.

    Raises:
        SettingError: a folder, the specification or a setting cannot be used.
        Terminated: SIGTERM was received; there is a checkpoint.
    """
    model = local_model(spec, base, trigger)
    check_folders(data, out)
    installation = local_installation(read_settings(), out)
    plan = prepare(installation, model, data, out)
    if dry_run:
        for line in lines(forecast(installation, model, plan)):
            print_line(line)
        return
    claim(out, plan)
    track_locally(out)
    result = _train(installation, model, plan, out)
    shutil.rmtree(out / "adapter", ignore_errors=True)
    download_folder(installation.store, result.adapter, out / "adapter")
    figures = f"loss {result.loss:.4f}, {result.seconds:.0f} s of device time"
    print_line(f"trained {result.key}: {figures}; adapter in {out / 'adapter'}")


def _train(installation: Installation, model: ModelConfig, plan: TrainPlan, out: Path) -> TrainResult:
    """Train; raises Terminated with the step of the newest checkpoint."""
    try:
        with progress(plan.spec.steps, out / "samples") as shown:
            return train(installation, model, plan, shown)
    except Terminated as error:
        raise Terminated(newest_step(installation.store, checkpoint_folder(plan.model, plan.key))) from error


def prepare(installation: Installation, model: ModelConfig, data: Path, out: Path) -> TrainPlan:
    """Create a dataset version of the folder, print what was left out, and plan the training."""
    count, left_out = import_folder(installation.store, model.dataset, data, out)
    for line in left_out:
        print_line(line)
    spec = model.preset.ingest.filled(model.trigger)
    captioner = open_captioner(installation.settings, model)
    manifest, _ = ingest(installation.store, model.dataset, spec, model.trigger, captioner=captioner)
    for line in remarks(installation.store, manifest):
        print_line(line)
    if captioner and (cost := captioner.cost()):
        print_line(cost)
    print_line(f"{count} pictures in {data}, {len(manifest.items)} of them distinct and usable")
    plan = plan_training(installation, model, TrainRequest(version=manifest.version))
    print_line(f"training {plan.key}: {plan.spec.steps} steps, dataset version {plan.version}, base {plan.base}")
    return plan


def local_model(spec: str, base: str = "", trigger: str = "") -> ModelConfig:
    """The model in a YAML file that names one; else a model of this preset."""
    path = Path(spec)
    if path.suffix in {".yaml", ".yml"} and path.is_file() and "name" in read_yaml(path):
        model = read_model(path)
    else:
        model = ModelConfig(name="adire", trigger=TRIGGER, class_noun="cloth", preset=load_preset(spec))
    changes = {"base": base, "trigger": trigger}
    return model.model_copy(update={name: value for name, value in changes.items() if value})


def check_folders(data: Path, out: Path) -> None:
    """Create `out`; raises SettingError when one of the two cannot be used."""
    if not data.is_dir():
        raise SettingError("--data", f"{data} is not a folder; name the one that holds your pictures")
    if out.exists() and not out.is_dir():
        raise SettingError("--out", f"{out} is a file; name a folder")
    if out.resolve() == data.resolve():
        raise SettingError("--out", f"{out} is the folder of the pictures; name another")
    out.mkdir(parents=True, exist_ok=True)


def local_installation(settings: Settings, out: Path) -> Installation:
    """An installation with the store, and a cache that the settings do not name, under `out`."""
    cache = settings.cache if "cache" in settings.model_fields_set else out / "cache"
    local = settings.model_copy(update={"store": str(out / "store"), "cache": cache})
    return Installation(local, FolderStore(out / "store"))


def track_locally(out: Path) -> None:
    """Let MLflow write to a SQLite file and a folder under `out`, unless MLFLOW_TRACKING_URI names another place."""
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return
    database = quote(str((out / "mlflow.db").absolute()))
    mlflow.set_tracking_uri(f"sqlite+pysqlite:///file:{database}?uri=true")  # of a plain path "?" would end the name


def import_folder(store: Store, dataset: str, data: Path, out: Path) -> tuple[int, list[str]]:
    """Upload the folder's files that ingest reads; return the number of pictures, and what was left out.

    Files in `out` are left out, should it be inside `data`. Raises SettingError when there is no picture.
    """
    found = [(name, plain and is_key(name)) for name, plain in walk(data) if not _is_inside(data / name, out)]
    uploads = sort_uploads((name for name, good in found if good), (name for name, good in found if not good))
    if not uploads.pictures:
        problem = f"{data} holds no picture ({', '.join(SUFFIXES)})"
        raise SettingError("--data", "; ".join([problem, *uploads.remarks]))
    for prefix in (f"uploads/{dataset}/", f"quarantine/{dataset}/"):
        delete_prefix(store, prefix)
    store.delete(index_key(dataset))
    unread = [
        (name, problem)
        for name in (*uploads.pictures, *uploads.texts, *uploads.tables)
        if (problem := _copy(data / name, store, f"uploads/{dataset}/{name}"))
    ]
    return len(uploads.pictures), [*uploads.remarks, *grouped(unread, "file", "left out that could not be read")]


def _is_inside(path: Path, out: Path) -> bool:
    """Whether the file, or what it is a link to, lies in `out`; unlike `Path.resolve`, a link cycle raises nothing."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out))


def _copy(path: Path, store: Store, key: str) -> str:
    """Why the file could not be copied; empty when it was."""
    try:
        if not path.is_file():
            return "is a link to nothing, or no file"
        data = path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    store.write(key, data)
    return ""


def claim(out: Path, plan: TrainPlan) -> None:
    """Record the plan in `out`; raises SettingError when it holds a training of another specification."""
    path = out / "training.json"
    if path.exists():
        before = parse(TrainPlan, path.read_bytes(), str(path))
        if before.key != plan.key:
            changed = "; ".join(d for d in differences(before, plan) if not d.startswith(("key:", "spec.compute.")))
            problem = f"{out} holds a training with another specification or other pictures ({changed})"
            raise SettingError("--out", f"{problem}; name another folder, or use the same specification and pictures")
    path.write_bytes(render(plan))
