"""Forgetting, on request."""

from collections.abc import Iterator

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from tasks.context import artifact_key, open_model
from tasks.core.config.requests import ForgetRequest
from tasks.core.errors import SettingError
from tasks.core.installation import open_installation
from tasks.core.lifecycle.forget_picture import PictureHolders, find_picture, forget_picture
from tasks.core.lifecycle.forget_session import Forgotten, forget_session
from tasks.core.traffic.session_lines import find_traces
from tasks.timeouts import LONG

NAMING = ("remarks", "quarantine")  # artifacts of an ingest that name pictures
BEYOND = (
    "Not reached from here: the folder `latents` of DYEWORKS_CACHE on other machines that train, backups, and pictures "
    "that models trained on it have rendered."
)


@task(timeout_seconds=LONG)
def delete_picture(request: ForgetRequest) -> PictureHolders:
    """Find what holds the picture, delete it, and show it."""
    if not (request.dataset and request.picture):
        raise SettingError("spec.picture", "name a picture with its dataset, or the session of a visitor")
    installation = open_installation()
    held = find_picture(installation, request)
    if not request.dry_run:
        held = forget_picture(installation, request, held)
    _show(request, "picture", [*_lines(held), BEYOND])
    return held


@task(timeout_seconds=LONG)
def delete_session(request: ForgetRequest) -> None:
    """Delete what a visitor has sent, and show how much; no prompt of it."""
    installation, model = open_model(request.model)
    if request.dry_run:
        found = find_traces(installation.store, model.name, request.session)
        lines = [f"{found.lines} lines of the logs, in {len(found.places)} hours"]
    else:
        done = forget_session(installation.store, model.name, request.session)
        lines = [f"{done.lines} lines of the logs; what was derived of {len(done.hours)} hours"]
        lines += [f"{what}: {', '.join(names) or 'none'}" for what, names in _quoting(done).items()]
    _show(request, "session", lines)


def _show(request: ForgetRequest, what: str, lines: list[str]) -> None:
    """Log the lines, and show them as an artifact."""
    for line in lines:
        get_run_logger().info("%s", line)
    title = f"What holds the {what}" if request.dry_run else f"What held the {what}, and was deleted"
    text = f"{title} (asked for by {request.actor}: {request.reason})\n\n" + "\n".join(f"- {line}" for line in lines)
    create_markdown_artifact(text, key="forgotten", description=title)


def _quoting(done: Forgotten) -> dict[str, tuple[str, ...]]:
    """Where prompts were quoted; what lies beyond the store is to be deleted by hand."""
    return {
        "drift records without its prompts now": done.reports,
        "references without its prompts now": done.references,
        "evaluations without its prompts now (delete their MLflow runs, which quote them too)": done.evaluations,
        "damaged objects of the logs, which may hold more": done.damaged,
    }


def _lines(held: PictureHolders) -> Iterator[str]:
    """What holds a picture; no name of it, as the lines are kept."""
    yield f"picture {held.sha256}: {len(held.uploads)} uploads, with captions, and its blob"
    yield f"dataset versions: {', '.join(' '.join(version) for version in held.versions) or 'none'}"
    for trained in held.trained:
        if trained.trainings or trained.releases:
            done = "withdrawn and deleted" if held.withdrawn else "left, as `withdraw` is off"
            for what in ("trainings", "releases"):
                yield f"model {trained.model}: {what} {', '.join(getattr(trained, what)) or 'none'}: {done}"
            yield f"model {trained.model}: MLflow runs {', '.join(trained.runs) or 'none'}: left"


@task(retries=2, retry_delay_seconds=5, timeout_seconds=LONG)
def delete_artifacts(request: ForgetRequest, held: PictureHolders) -> None:
    """Delete the artifacts of ingests that may name the picture."""
    keys = [artifact_key(dataset, what) for dataset in held.datasets for what in NAMING]
    chosen = ArtifactFilter(key=ArtifactFilterKey(any_=keys))
    with get_client(sync_client=True) as client:
        while not request.dry_run and (
            page := client.read_artifacts(artifact_filter=chosen, sort=ArtifactSort.ID_DESC)
        ):
            for artifact in page:
                client.delete_artifact(artifact.id)
