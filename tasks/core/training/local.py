"""What a training without any server needs: settings, the pictures of a folder, MLflow in a file."""

import logging
import os
from pathlib import Path

import mlflow

from tasks.core.data.captions import METADATA
from tasks.core.data.dataset import Refusal
from tasks.core.data.pictures import SUFFIXES
from tasks.core.documents import parse, read_documents, render
from tasks.core.errors import SettingError
from tasks.core.settings import Settings, get_settings
from tasks.core.spec import differences
from tasks.core.store import Store, delete_prefix
from tasks.core.training.plan import TrainPlan


def check_folders(data: Path, out: Path) -> None:
    """Make `out`; raises SettingError when one of the two cannot be used."""
    if not data.is_dir():
        raise SettingError("--data", f"{data} is not a folder; name the one that holds your pictures")
    if out.exists() and not out.is_dir():
        raise SettingError("--out", f"{out} is a file; name a folder")
    if out.resolve() == data.resolve():
        raise SettingError("--out", f"{out} is the folder of the pictures; name another")
    out.mkdir(parents=True, exist_ok=True)


def local_settings(out: Path) -> Settings:
    """The settings with the store, and a cache that nobody has named, under `out`."""
    settings = get_settings()
    cache = settings.cache if "cache" in settings.model_fields_set else out / "cache"
    return settings.model_copy(update={"store": str(out / "store"), "cache": cache})


def track_locally(settings: Settings, out: Path) -> None:
    """Let MLflow write to a SQLite file and a folder under `out`, unless MLFLOW_TRACKING_URI names another place."""
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return
    mlflow.set_tracking_uri(f"sqlite:///{(out / 'mlflow.db').absolute()}")
    experiment = f"{settings.model}-train"
    if not mlflow.get_experiment_by_name(experiment):  # its files would else lie where the process was started
        mlflow.create_experiment(experiment, artifact_location=(out / "mlflow").absolute().as_uri())


def bring(store: Store, dataset: str, data: Path, out: Path) -> int:
    """Make the uploads those of the folder, captions among them; how many pictures there are.

    What lies in `out` is left out, should it be in `data`. Raises SettingError when there is no picture.
    """
    found = [p for p in sorted(data.rglob("*")) if p.is_file() and not p.resolve().is_relative_to(out.resolve())]
    pictures = [p for p in found if p.suffix.lower() in SUFFIXES]
    if not pictures:
        raise SettingError("--data", f"{data} holds no picture ({', '.join(SUFFIXES)})")
    for prefix in (f"uploads/{dataset}/", f"quarantine/{dataset}/"):
        delete_prefix(store, prefix)
    captions = [p for p in found if p.suffix == ".txt" or p.name == METADATA]
    for path in captions + pictures:
        store.write(f"uploads/{dataset}/{path.relative_to(data).as_posix()}", path.read_bytes())
    return len(pictures)


def claim(out: Path, plan: TrainPlan) -> None:
    """Note whose folder `out` is; raises SettingError when it holds a training of another specification."""
    path = out / "training.json"
    if path.exists():
        before = parse(TrainPlan, path.read_bytes(), str(path))
        if before.key != plan.key:
            changed = "; ".join(d for d in differences(before, plan) if not d.startswith(("key:", "spec.compute.")))
            problem = f"{out} holds a training with another specification or other pictures ({changed})"
            raise SettingError("--out", f"{problem}; name another folder, or go on with what that one began with")
    path.write_bytes(render(plan))


def refusals(store: Store, dataset: str) -> list[str]:
    """What the last ingest refused, a line for each, with the reason."""
    return [f"refused {r.name}: {r.reason}" for r in read_documents(store, Refusal, f"quarantine/{dataset}/")]
