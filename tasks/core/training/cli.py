"""Trains a LoRA with no server: `python -m tasks.core.training SPEC.yaml --data FOLDER --out FOLDER`.

SPEC is a preset's file, or its name: `train` and `ingest` are read. The same code runs as in the deployment, on a
store under --out. Killed and started again it goes on from its last checkpoint; SIGTERM writes one, and ends it with
exit code 143. The finished adapter is in --out/adapter. With another SPEC or other pictures it is another training, and
wants a folder of its own. --dry-run does a few real steps, and tells what the whole would be.
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tasks.core.config.base import explain
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import Preset, load_preset
from tasks.core.config.requests import TrainRequest
from tasks.core.data.dataset import ingest, remarks
from tasks.core.errors import DyeworksError, Terminated
from tasks.core.installation import Installation
from tasks.core.registry.results import TrainResult
from tasks.core.store import FolderStore, download_folder
from tasks.core.training.checkpoints import newest_step
from tasks.core.training.forecast import forecast, lines
from tasks.core.training.local import bring, check_folders, claim, local_settings, track_locally
from tasks.core.training.plan import TrainPlan, plan_training
from tasks.core.training.progress import progress, say
from tasks.core.training.run import train
from tasks.core.training.termination import raising


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; 0 when the adapter is there, 1 with one line on what was wrong, 143 after SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.core.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", help="file or name of a preset")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of pictures, with captions beside them if you like"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all that this writes")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be trained, and how long it would take")
    options = parser.parse_args(arguments)
    try:
        with raising():
            run(options.spec, options.data, options.out, options.dry_run)
    except ValidationError as error:
        return _fail(f"settings: {explain(error, Settings)}")
    except Terminated as error:
        _fail(str(error))
        return 128 + signal.SIGTERM
    except (DyeworksError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _fail("stopped; started again it goes on from its last checkpoint")
        return 130
    return 0


def _fail(problem: str) -> int:
    print(f"dyeworks: {' '.join(problem.split())}", file=sys.stderr)
    return 1


def run(spec: str, data: Path, out: Path, dry: bool = False) -> None:
    """Ingest the folder, train, and copy the adapter to `out`."""
    preset = load_preset(spec)
    check_folders(data, out)
    settings = local_settings(out)
    store = FolderStore(out / "store")
    plan = prepare(store, settings, preset, data, out)
    if dry:
        for line in lines(forecast(store, settings, plan)):
            say(line)
        return
    claim(out, plan)
    track_locally(out)
    result = course(store, settings, plan, out)
    shutil.rmtree(out / "adapter", ignore_errors=True)
    download_folder(store, result.adapter, out / "adapter")
    say(summary(result, out / "adapter"))


def course(installation: Installation, model: ModelConfig, plan: TrainPlan, out: Path) -> TrainResult:
    """Train; raises Terminated with the step of the newest checkpoint."""
    try:
        with progress(plan.spec.steps, out / "samples") as shown:
            return train(installation, model, plan, shown)
    except Terminated as error:
        raise Terminated(newest_step(installation.store, plan.key)) from error


def prepare(installation: Installation, model: ModelConfig, preset: Preset, data: Path, out: Path) -> TrainPlan:
    """Make a dataset version of the folder, tell what is not in it, and plan the training."""
    count, left_out = bring(installation.store, model.dataset, data, out)
    for line in left_out:
        say(line)
    manifest, _ = ingest(installation.store, model.dataset, preset.ingest, model.trigger)
    for line in remarks(installation.store, manifest):
        say(line)
    say(f"{count} pictures in {data}, {len(manifest.items)} of them distinct and usable")
    request = TrainRequest(dataset=model.dataset, version=manifest.version, train=preset.train)
    plan = plan_training(installation, model, request)
    say(f"training {plan.key}: {plan.spec.steps} steps, dataset version {plan.version}, base {plan.base}")
    return plan


def summary(result: TrainResult, folder: Path) -> str:
    """What a finished training says last."""
    return f"trained {result.key}: loss {result.loss:.4f}, {result.seconds:.0f} s of device time; adapter in {folder}"


if __name__ == "__main__":
    sys.exit(main())
