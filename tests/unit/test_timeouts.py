"""Every flow and task has a timeout, and a training writes a checkpoint on it."""

import importlib
import time
from pathlib import Path

import pytest
from prefect import Flow, Task
from prefect.utilities.timeout import timeout

from tasks.core.config.installation import ROOT
from tasks.core.errors import Terminated
from tasks.core.training.termination import interruptible, termination

MODULES = [p.relative_to(ROOT) for folder in ("flows", "tasks") for p in sorted((ROOT / folder).glob("*.py"))]


def made_by(path: Path) -> list[Flow[..., object] | Task[..., object]]:
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    return [found for found in vars(module).values() if isinstance(found, Flow | Task)]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_flow_and_task_has_a_timeout(path: Path) -> None:
    missing = [made.name for made in made_by(path) if not made.timeout_seconds]
    assert missing == []


def test_there_are_flows_and_tasks() -> None:
    assert len({made.name for path in MODULES for made in made_by(path)}) > 40


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "flows"], ids=str)
def test_timeout_of_a_flow_exceeds_those_of_its_tasks(path: Path) -> None:
    made = made_by(path)
    longest = [found.timeout_seconds or 0 for found in made if isinstance(found, Task)]
    for flow in (found for found in made if isinstance(found, Flow)):
        assert (flow.timeout_seconds or 0) > max(longest, default=0)


def test_training_timeout_writes_a_checkpoint() -> None:
    steps: list[int] = []

    def train() -> None:
        with termination() as term:
            step = 0
            while not term.asked:
                step += 1
                time.sleep(0.01)
            steps.append(step)

    with pytest.raises(TimeoutError) as caught, timeout(1):
        interruptible(train)
    assert steps
    assert not isinstance(caught.value, Terminated)
