"""Several processes for one training: started, watched and stopped together."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image
from pydantic import SecretStr

from tasks.core.config.installation import ROOT, Settings
from tasks.core.config.model import ModelConfig
from tasks.core.errors import TrainingFailed
from tasks.core.store.documents import render
from tasks.core.training.plan import TrainPlan
from tasks.core.training.termination import Termination, termination
from tasks.core.training.trainer import Observer
from tasks.core.training.worker import MARK, MODEL, PLAN

LOOK = 0.5  # seconds between two checks whether to stop


def fit_in_processes(
    settings: Settings, model: ModelConfig, plan: TrainPlan, observer: Observer, folder: Path
) -> dict[str, float]:
    """Run `fit` in as many processes as the plan asks for; the adapter is written into `folder`/adapter.

    Raises:
        TrainingFailed: with the error of a process.
        Terminated: SIGTERM was received and passed on; a checkpoint was written.
    """
    (folder / PLAN).write_bytes(render(plan))
    (folder / MODEL).write_text(model.model_dump_json(), encoding="utf-8")
    count = plan.spec.compute.processes
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command = [*run, "-m", "tasks.core.training.worker", str(folder)]
    relayed = _Relayed(observer)
    with (
        termination() as term,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace", env=_environment(settings), cwd=ROOT
        ) as child,
    ):
        for line in _lines(child, term):
            relayed.line(line)
    if child.returncode or not relayed.figures:
        raise TrainingFailed(plan.key, relayed.failure or f"its processes ended with {child.returncode}")
    return relayed.figures


def _environment(settings: Settings) -> dict[str, str]:
    own = {f"DYEWORKS_{n.upper()}": str(v) for n, v in settings if not isinstance(v, SecretStr)}
    return dict(os.environ) | own


def _lines(child: "subprocess.Popen[str]", term: Termination) -> Iterator[str]:
    """The lines it prints; SIGTERM is passed on to it."""
    lines: queue.Queue[str | None] = queue.Queue()
    if child.stdout is None:
        raise ValueError("the process was started without a pipe")
    threading.Thread(target=_pump, args=(child.stdout, lines), daemon=True).start()
    passed_on = False
    while True:
        if term.asked and not passed_on:
            child.terminate()
            passed_on = True
        try:
            line = lines.get(timeout=LOOK)
        except queue.Empty:
            continue
        if line is None:
            return
        yield line


def _pump(stream: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


class _Relayed:
    """Passes the reports of the first process to the observer."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.figures: dict[str, float] = {}
        self.failure = ""

    def line(self, line: str) -> None:
        _, mark, text = line.partition(MARK)  # what a library has printed may stand before it
        if not mark:
            return
        kind, value = json.JSONDecoder().raw_decode(text)[0]
        match kind:
            case "step":
                self.observer.step(*value)
            case "samples":
                self.observer.samples(value[0], [Image.open(path) for path in value[1]])
            case "resumed":
                self.observer.resumed(value)
            case "note":
                self.observer.note(value)
            case "figures":
                self.figures = value
            case "failed":
                self.failure = value
