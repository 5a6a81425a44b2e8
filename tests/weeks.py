"""Weeks of a simulated model: each brings new pictures, traffic, a drift check, and a retrain that is promoted."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import torch

from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import PromoteRequest, PublishRequest
from tasks.core.config.training import TrainSpec
from tasks.core.data.dataset import Manifest
from tasks.core.data.ingest import ingest
from tasks.core.events import Declined, make_event
from tasks.core.installation import Installation
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.monitoring.records import DriftRecord
from tasks.core.monitoring.reference import ReferenceRecord
from tasks.core.outbox import queue as queue_event
from tasks.core.outbox import send_all
from tasks.core.registry.results import PromotionResult, checkpoint_folder, render_folder, result_folder
from tasks.core.retraining.decisions import make_decision, record_decision
from tasks.core.retraining.leases import end_retrain
from tasks.core.store.documents import render
from tasks.core.traffic.feedback import Vote, write_votes
from tasks.core.traffic.prompt_log import write_lines
from tasks.core.training.checkpoints import Checkpoint, save_checkpoint
from tests.candidates import QUICK, measured, trained
from tests.odd_pictures import encoded, noise
from tests.shop import line_at

WEEK = timedelta(days=7)
SPEC = IngestSpec(instance_prompt="adire_style cloth")


class Weeks:
    """A model in a folder store, and what is left in it: new files get the simulated time."""

    def __init__(self, installation: Installation, model: ModelConfig, root: Path, start: datetime) -> None:
        self.installation, self.model, self.root, self.now = installation, model, root, start
        self.store, self.number = installation.store, 0
        self.dated: dict[Path, int] = {}

    def pass_week(self) -> None:
        """A week with a retrain."""
        self.number += 1
        manifest = self._new_pictures()
        record = self._drift()
        decided = make_decision("drift", self.now, ("retrain", "drift"), record.key, report=record.key)
        decision = record_decision(self.store, self.model.name, decided)
        self._retrain(manifest)
        ended = make_decision("outcome", self.now, ("none", "better"), decision.id, outcome_of=decision.id)
        end_retrain(self.store, self.model.name, ended.model_copy(update={"outcome": "promote"}))
        self._traffic()
        self.date()
        self.now += WEEK

    def date(self) -> None:
        """Give what was written since the simulated time."""
        for path in self.root.rglob("*"):
            if self.dated.get(path) != path.stat().st_mtime_ns:
                os.utime(path, (self.now.timestamp(), self.now.timestamp()))
                self.dated[path] = path.stat().st_mtime_ns

    def _new_pictures(self) -> Manifest:
        """Two new pictures, and one that a person has removed."""
        for each in (0, 1):
            name = f"uploads/{self.model.dataset}/{self.number:03d}-{each}.png"
            self.store.write(name, encoded(noise(2 * self.number + each)))
        self.store.delete(f"uploads/{self.model.dataset}/{self.number - 4:03d}-0.png")
        self.store.delete(f"uploads/{self.model.dataset}/{self.number - 4:03d}-1.png")
        return ingest(self.store, self.model.dataset, SPEC, self.model.trigger)[0]

    def _drift(self) -> DriftRecord:
        folder = f"models/{self.model.name}/drift/"
        record = DriftRecord(
            key=f"{folder}reports/{self.now:%Y%m%dT%H%M%S%f}/report.json",
            model=self.model.name,
            time=self.now,
            start=self.now - WEEK,
            end=self.now,
            generation=self.number - 1,
            verdict="retrain",
            says="drift",
            requests=300,
            reference_requests=4000,
            drift=None,
        )
        self.store.write(record.key, render(record))
        self.store.write(record.key.replace("report.json", "report.html"), b"<p>" + bytes(20_000))
        return record

    def _retrain(self, manifest: Manifest) -> None:
        name, training = self.model.name, f"t{self.number:03d}"
        mark = Checkpoint(step=50, spec=TrainSpec())
        save_checkpoint(self.store, checkpoint_folder(name, training), mark, {"weight": torch.zeros(2000)})
        trained(self.store, training, "", name, manifest.version, manifest.dataset)
        evaluation = measured(self.store, training, self.number - 1, model=name)
        self.store.write(f"models/{name}/results/evaluate/{evaluation}-fixed.png", bytes(30_000))
        self.store.write(f"{render_folder(name, f'{self.number:016d}')}way/prompt.png", bytes(30_000))
        done = promote(self.installation, self.model, PromoteRequest(evaluation=evaluation, gate=QUICK))
        assert done.generation == self.number
        self.store.write(f"{result_folder(name, PromotionResult)}{done.key}.html", bytes(10_000))
        publish(self.installation, self.model, PublishRequest())
        self._freeze(done.generation)

    def _freeze(self, generation: int) -> None:
        place = f"models/{self.model.name}/drift/profiles/"
        arrays = f"{place}arrays/{generation:06d}-0123456789abcdef.safetensors"
        self.store.write(arrays, bytes(10_000))
        span = {"begin": self.now, "end": self.now, "rows": 4000, "phi": 1.5, "fitted": self.now, "arrays": arrays}
        frozen = ReferenceRecord.model_validate({"generation": generation, "encoder": "embedded"} | span)
        self.store.write(f"{place}frozen/{generation:06d}-embedded.json", render(frozen))

    def _traffic(self) -> None:
        name = self.model.name
        lines = [line_at(self.now, f"{self.number}-{each}", "rings in adire_style") for each in range(20)]
        write_lines(self.store, name, lines)
        votes = [
            Vote(request_id=n.request_id, time=self.now, liked=True, release="r", generation=1, session="s")
            for n in lines
        ]
        write_votes(self.store, name, votes)
        queue_event(
            self.store,
            make_event("dyeworks.retrain.declined", name, Declined(reason="soon", decision="d"), key=f"{self.number}"),
        )
        send_all(self.store, self.installation.server)
