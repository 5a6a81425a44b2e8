"""Names and tags of flow runs, so that the list of runs shows the model and the subject of each."""

from contextlib import suppress

from prefect import Flow, State
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from tasks.core.errors import DyeworksError
from tasks.core.installation import open_installation

STAGE = "retrain "  # prefix of the names of stages' runs, which a trigger in prefect.yaml matches
SHORT = 4  # digits of a key that are shown
WITHOUT_MODEL = {"ingest-upload", "reconcile-uploads", "sweep-store", "forget"}
SUBJECTS = ("key", "training", "evaluation", "cause", "dataset", "release", "generation", "action")


def label_run(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """`on_running` hook: the name `train-lora adire 3f2a` and the tag `model:adire`; a stage keeps its name."""
    parameter = flow_run.parameters.get("spec") or {}
    spec: dict[str, object] = parameter if isinstance(parameter, dict) else dict(parameter)
    model = str(spec.get("model") or "") or ("" if flow.name in WITHOUT_MODEL else _only_model())
    own = " ".join(filter(None, (flow.name, model, subject(spec))))
    name = flow_run.name if flow_run.name.startswith(STAGE) else own
    tags = sorted({*flow_run.tags, *([model_tag(model)] if model else [])})
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name, tags=tags)


def subject(spec: dict[str, object]) -> str:
    """The subject of a request beside its model: the first digits of a key, a cause, a dataset, a generation."""
    found = next(
        ((name, spec[name]) for name in SUBJECTS if isinstance(spec.get(name), str | int) and spec[name]), None
    )
    if found is None:
        return ""
    name, value = found
    return str(value)[:SHORT] if name in {"key", "training", "evaluation", "release"} else str(value)


def stage_name(model: str, stage: str, key: str, attempt: int) -> str:
    """The name of a stage's run: `retrain adire: train-lora 3f2a`, with its number from the second attempt on."""
    again = f" #{attempt}" if attempt > 1 else ""
    return f"{STAGE}{model}: {stage} {key[:SHORT]}{again}"


def model_tag(model: str) -> str:
    """The tag of all runs of a model."""
    return f"model:{model}"


def _only_model() -> str:
    with suppress(DyeworksError):
        return open_installation().model().name
    return ""
