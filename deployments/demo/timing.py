"""What the time of the demo was spent on, from the states of its runs and the results of its stages."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tasks.core.registry.results import EvaluationResult, TrainResult

STAGES = {"ingest-upload", "retrain-model", "train-lora", "evaluate-challenger", "promote-champion", "publish-champion"}
BY_EVENTS = {"ingest-upload", "retrain-model"}  # started by an event
WORK = {"train-lora": "run_training", "evaluate-challenger": "run_evaluation"}  # tasks whose results know their seconds


class RunTimes(NamedTuple):
    """When a flow run was created, taken by a worker, began and ended; `work` is its task of WORK, begin and end."""

    flow: str
    created: datetime
    pending: datetime
    running: datetime
    ended: datetime
    work: tuple[datetime, datetime] | None = None


def where_time_went(
    total: float,
    services: float,
    visitors: float,
    runs: Sequence[RunTimes],
    trainings: Sequence[TrainResult],
    evaluations: Sequence[EvaluationResult],
) -> dict[str, float]:
    """Seconds by what they were spent on; `waiting` is what is left of `total`.

    `services` is the start of the services, `visitors` the rendering for visitors. A run starts from when a worker has
    taken it until it runs: Python, Prefect and the flow. The tasks that train and evaluate then import what they work
    with, and open MLflow.
    """
    stages = [run for run in runs if run.flow in STAGES]
    measured = sum(t.seconds for t in trainings) + sum(e.seconds for e in evaluations)
    rendering = sum(e.render_seconds for e in evaluations)
    spent = {
        "services": services,
        "starts": sum(_seconds(run.pending, run.running) for run in stages),
        "imports": max(0.0, sum(_seconds(*run.work) for run in stages if run.work) - measured),
        "training": sum(t.seconds for t in trainings),
        "rendering": rendering,
        "scoring": sum(e.seconds for e in evaluations) - rendering,
        "visitors": visitors,
        "checks": sum(_seconds(run.running, run.ended) for run in runs if run.flow == "monitor-drift"),
        "other": sum(_seconds(run.running, run.ended) for run in stages if run.flow not in {*WORK, "retrain-model"}),
    }
    rounded = {name: round(seconds, 1) for name, seconds in spent.items()}
    return rounded | {"waiting": round(max(0.0, total - sum(spent.values())), 1)}


def delays(runs: Sequence[RunTimes], trainings: Sequence[TrainResult]) -> dict[str, list[float]]:
    """Seconds from an event to its run, and from the run of each retrain to its first training step, in order."""
    ordered = sorted(runs, key=lambda run: run.created)
    retrains = [run.running for run in ordered if run.flow == "retrain-model"]
    ends = [run.work[1] for run in ordered if run.flow == "train-lora" and run.work]
    seconds = [t.seconds for t in sorted(trainings, key=lambda t: t.finished)]
    return {
        "event_to_run": [round(_seconds(r.created, r.running), 1) for r in ordered if r.flow in BY_EVENTS],
        "run_to_training": [
            round(_seconds(begin, end) - took, 1) for begin, end, took in zip(retrains, ends, seconds, strict=False)
        ],
    }


def sentence(spent: dict[str, float]) -> str:
    """One line for the console, the largest first."""
    parts = sorted(spent.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts)


def _seconds(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
