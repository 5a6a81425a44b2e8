"""Names and tags of flow runs: what a run is about can be read off the list of runs."""

from contextlib import suppress

from prefect import Flow, State
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from tasks.core.errors import DyeworksError
from tasks.core.installation import open_installation

STAGE = "retrain "  # begins the names of stages' runs, which prefect.yaml knows them by
SHORT = 4  # digits of a key that are shown
ABOUT = ("key", "training", "evaluation", "cause", "dataset", "release", "generation", "action")


def label_run(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """Hook of a run that begins: `train-lora adire 3f2a`, with the tag `model:adire`; a stage keeps its name."""
    asked = flow_run.parameters.get("spec") or {}
    spec: dict[str, object] = asked if isinstance(asked, dict) else dict(asked)
    model = str(spec.get("model") or "") or ("" if flow.name == "ingest-upload" else _only_model())
    name = flow_run.name if flow_run.name.startswith(STAGE) else " ".join(filter(None, (flow.name, model, about(spec))))
    tags = sorted({*flow_run.tags, *([model_tag(model)] if model else [])})
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name, tags=tags)


def about(spec: dict[str, object]) -> str:
    """What a request is about beside its model, in a word: a key's first digits, a cause, a dataset, a generation."""
    found = next(((name, spec[name]) for name in ABOUT if isinstance(spec.get(name), str | int) and spec[name]), None)
    if found is None:
        return ""
    name, value = found
    return str(value)[:SHORT] if name in {"key", "training", "evaluation", "release"} else str(value)


def stage_name(model: str, stage: str, key: str, attempt: int) -> str:
    """The name of a stage's run: `retrain adire: train-lora 3f2a`, from the second attempt on with its number."""
    again = f" #{attempt}" if attempt > 1 else ""
    return f"{STAGE}{model}: {stage} {key[:SHORT]}{again}"


def model_tag(model: str) -> str:
    """The tag of all runs of a model."""
    return f"model:{model}"


def _only_model() -> str:
    with suppress(DyeworksError):
        return open_installation().model().name
    return ""
