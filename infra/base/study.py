"""The embedded preset over several training seeds: `python -m infra.base.study [--seeds 5]`.

For each seed a first LoRA is trained on the demo's first pictures and a second one after the new motif has arrived,
by the trainer itself; printed is what the gate would look at, and what the base could draw before and after.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from PIL import Image

from infra.base.polar import HARMONICS, shown
from infra.base.visitors import FIRST_TASTE, NEW_MOTIFS, draw_uploads, requests
from infra.base.world import SIZES, random_scene
from tasks.core.config.installation import ROOT, Settings
from tasks.core.config.model import ModelConfig, read_model
from tasks.core.config.training import TrainSpec
from tasks.core.evaluation.renders import RenderCache, way_of
from tasks.core.evaluation.session import EvaluatedModel, RenderSession
from tasks.core.models.clip import Clip
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tasks.core.store import FolderStore
from tasks.core.training.dataset import Lesson, TrainingPicture, drawn
from tasks.core.training.sampler import demand_weights
from tasks.core.training.trainer import Trainer

OUT = Path("build/study.json")
FIRST_PICTURES, NEW_PICTURES = 100, 48  # as in the demo


@dataclass
class CpuMeter:
    """Counts the CPU-seconds of a training."""

    cpu: float = 0.0
    start: float = field(default_factory=time.process_time)

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """After a step."""
        self.cpu = time.process_time() - self.start

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """Sample pictures are not stored."""

    def resumed(self, step: int) -> None:
        """Nothing is resumed here."""

    def note(self, message: str) -> None:
        """Nothing is out of the ordinary here."""


class Study:
    """The pictures, the prompts and the scorer that all seeds share."""

    def __init__(self, model: ModelConfig, place: Path) -> None:
        self.model, self.preset, self.place = model, model.preset, place
        self.clip = Clip(model)
        self.first = _drawn(place / "first", FIRST_PICTURES, FIRST_TASTE, 1)
        self.new = _drawn(place / "new", NEW_PICTURES, NEW_MOTIFS, 2)
        self.demand = tuple(dict.fromkeys(r.prompt for r in requests(40, NEW_MOTIFS, 5)))[:12]
        rng = np.random.default_rng(77)
        scenes = [random_scene(rng) for _ in range(16)]
        self.prompts = {
            "fixed": self.preset.evaluation.prompts.filled("trigger", model.trigger),
            "base": tuple(f"{s.size} {s.figure} {s.motif} on {s.ground}" for s in scenes),
            "new": self.demand,
        }

    def train(self, spec: TrainSpec, with_new: bool) -> tuple[Path, float]:
        """Train and save; the folder of the LoRA, and the CPU-seconds, those of preparing included."""
        pictures, captions = self.first
        if with_new:
            pictures, captions = pictures + self.new[0], captions + self.new[1]
        weights = demand_weights(self.clip, captions, self.demand if with_new else ())
        name = f"{spec.seed}-{'second' if with_new else 'first'}"
        meter = CpuMeter()
        lesson = _lesson([drawn(p, c) for p, c in zip(pictures, captions, strict=True)], weights)
        trainer = Trainer(load_pipeline(self.model.base), lesson, spec, Settings().cache, self.model.trigger)
        trainer.run(FolderStore(self.place / "store"), name, meter)
        trainer.save(self.place / name)
        return self.place / name, meter.cpu

    def scores(self, adapter: Path | None) -> dict[str, float]:
        """Mean CLIPScore of each set of prompts, and the seconds of a picture; None is the bare base."""
        spec, size = self.preset.evaluation, self.preset.train.resolution
        cache = RenderCache(
            FolderStore(self.place / "renders"), self.model.name, way_of(self.model.base, "", spec, size)
        )
        session, model = (
            RenderSession(cache, lambda: Renderer(self.model.base)),
            EvaluatedModel.of(adapter) if adapter else EvaluatedModel(),
        )
        means: dict[str, float] = {}
        for name, prompts in self.prompts.items():
            drawn = list(session.draw(model, prompts, spec.seeds))
            each = [self.clip.score([d.prompt] * len(d.pictures), d.pictures).mean() for d in drawn]
            means[name] = round(float(np.mean(each)), 4)
            means["seconds"] = round(float(np.mean([d.seconds for d in drawn])), 3)
        return means | self._turns(session, model)

    def _turns(self, session: RenderSession, model: EvaluatedModel) -> dict[str, float]:
        """The share of rings and of spirals in both sizes, ten seeds each, that are right by their harmonics."""
        shares: dict[str, float] = {}
        for motif in HARMONICS:
            prompts = {f"{size} {motif} in {self.model.trigger}": size for size in SIZES}
            drawn = session.draw(model, tuple(prompts), tuple(range(1, 11)))
            right = [shown(np.asarray(p), prompts[d.prompt]) == motif for d in drawn for p in d.pictures]
            shares[motif] = float(np.mean(right))
        return shares


def _lesson(pictures: list[TrainingPicture], weights: npt.NDArray[np.float64]) -> Lesson:
    """About a tenth of the pictures is held out, by their content."""
    held = np.array([int(picture.sha256[:8], 16) % 10 == 0 for picture in pictures])
    kept, out = ([p for p, there in zip(pictures, rows, strict=True) if there] for rows in (~held, held))
    return Lesson(kept, weights[~held] / weights[~held].sum(), out)


def _drawn(folder: Path, count: int, taste: dict[str, float], seed: int) -> tuple[list[Image.Image], list[str]]:
    """Pictures as they are uploaded, at the training's size, and their captions."""
    draw_uploads(folder, count, taste, seed, pixels=64)
    files = sorted(folder.glob("*.png"))
    return [Image.open(f).convert("RGB") for f in files], [
        f.with_suffix(".txt").read_text(encoding="utf-8").strip() for f in files
    ]


def main() -> None:
    """Run the study, print a line a seed, and write build/study.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only-first", action="store_true", help="leave the second training out")
    options = parser.parse_args()
    model = read_model(ROOT / "infra/models/adire.yaml")
    with TemporaryDirectory() as place:
        study = Study(model, Path(place))
        rows: list[dict[str, object]] = [{"model": "bare base", **study.scores(None)}]
        print(rows[0], flush=True)
        for seed in range(1, options.seeds + 1):
            for with_new in (False,) if options.only_first else (False, True):
                adapter, cpu = study.train(model.preset.train.model_copy(update={"seed": seed}), with_new)
                name = f"seed {seed}, {'second' if with_new else 'first'}"
                rows.append({"model": name, "cpu_seconds": round(cpu, 1), **study.scores(adapter)})
                print(rows[-1], flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
