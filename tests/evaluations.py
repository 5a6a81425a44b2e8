"""A store with models of known faults, which an evaluation compares: painted pictures, the real scorer and store."""

from pathlib import Path

from infra.base.visitors import FIRST_TASTE
from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import EvaluationSpec, GateSpec, IngestSpec, Margins
from tasks.core.config.prompts import load_prompts
from tasks.core.config.requests import EvaluateRequest
from tasks.core.config.training import TrainSpec
from tasks.core.data.ingest import ingest
from tasks.core.data.split import split
from tasks.core.evaluation.plan import EvaluationPlan, plan_evaluation
from tasks.core.evaluation.run import Watch, evaluate
from tasks.core.models.clip import Clip
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry import ledger
from tasks.core.registry.releases import ReleaseManifest, write_release
from tasks.core.registry.results import EvaluationResult, TrainResult, checkpoint_folder, save_result
from tasks.core.store import FolderStore
from tasks.core.training.dataset import load_pictures
from tests.adire import installed
from tests.painter import Painter

SPEC = EvaluationSpec(prompts=load_prompts("embedded-1"), seeds=(1, 2), steps=12, guidance=2.0, batch=12)
WIDE = Margins(
    prompt_fidelity=0.2, style_fidelity=0.1, diversity=0.1, forgetting=0.1, near_copies=0.1, render_seconds=1.0
)
GATE = GateSpec(margins=WIDE, min_diversity=0.005, resamples=1000)
DRIFTED = tuple(
    f"{what} in adire_style"
    for what in (
        "small rings for my scarf",
        "large checks",
        "small checks",
        "large rings on a wall",
        "small dots for a bag",
        "checks",
    )
)  # of two the interval would span everything


class Shop:
    """A store with models that can be compared."""

    def __init__(self, store: FolderStore, model: ModelConfig, clip: Clip) -> None:
        self.store, self.model, self.clip = store, model, clip
        self.manifest = ingest(store, "adire", IngestSpec())[0]
        trained = split(store, self.manifest).train
        pictures = load_pictures(store, "adire", trained, 64)
        self.originals = {
            f"{item.caption} {item.name} {size_of(item.name)}": p for item, p in zip(trained, pictures, strict=True)
        }

    def train(self, kind: str) -> str:
        """A training whose adapter paints like this."""
        adapter = f"{checkpoint_folder(self.model.name, kind)}/adapter/"
        self.store.write(adapter + WEIGHTS, kind.encode())
        fields = {
            "key": kind,
            "model": self.model.name,
            "finished": clock.now(),
            "dataset": "adire",
            "dataset_version": self.manifest.version,
        }
        fields |= {
            "spec": TrainSpec(resolution=64),
            "mlflow_run": "",
            "adapter": adapter,
        }
        fields |= {"loss": 0.1, "resumed_from": 0, "steps_per_second": 1.0}
        save_result(self.store, TrainResult.model_validate(fields))
        return kind

    def crown(self, kind: str, folder: Path) -> str:
        """Make a model that paints like this the champion."""
        folder.mkdir()
        (folder / WEIGHTS).write_text(kind)
        about = {"base_model": "", "dataset": "adire", "dataset_version": self.manifest.version, "training": kind}
        release = write_release(
            self.store,
            self.model.name,
            folder,
            ReleaseManifest.model_validate(about | {"trigger": "adire_style", "files": {}}),
        )
        entries = ledger.history(self.store, self.model.name)
        fields = {"generation": len(entries) + 1, "action": "promote", "release": release, "time": clock.now()}
        fields |= {"dataset_version": "", "actor": "gate", "reason": "better"}
        ledger.append(self.store, self.model.name, ledger.Entry.model_validate(fields))
        return release

    def plan(self, kind: str, spec: EvaluationSpec = SPEC, gate: GateSpec = GATE, **more: object) -> EvaluationPlan:
        request = EvaluateRequest.model_validate({"training": kind, "evaluation": spec, "gate": gate} | more)
        return plan_evaluation(installed(self.store), self.model, request)

    def painter(self, cut: int = 0) -> Painter:
        return Painter(self.originals, cut)

    def evaluate(
        self, plan: EvaluationPlan, painter: Painter | None = None, watch: Watch = lambda *_: None
    ) -> EvaluationResult:
        chosen = painter or self.painter()
        return evaluate(installed(self.store), self.model, plan, self.clip, lambda *_: chosen, watch)


def size_of(name: str) -> str:
    """Uploads take turns in their motif first, then in their size."""
    return ("large", "small")[int(Path(name).stem[-3:]) // len(FIRST_TASTE) % 2]
