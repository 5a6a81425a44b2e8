"""The sweep of the store, and of Prefect's artifacts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound

from tasks.core import clock
from tasks.core.config.requests import SweepRequest
from tasks.core.installation import open_installation
from tasks.core.lifecycle.sweep import SweepReport, sweep
from tasks.core.registry.models import model_names
from tasks.core.traffic.compaction import compact
from tasks.timeouts import LONG

OVER = timedelta(hours=1)  # since when an hour is over; lines that come later are one more object
PAGE = 20  # artifacts that are read at once: each holds its picture


@task(timeout_seconds=LONG)
def compact_logs(request: SweepRequest) -> None:
    """Make one object of each hour of the logs that is over."""
    store = open_installation().store
    for model in () if request.dry_run else model_names(store):
        done = compact(store, model, clock.now() - OVER)
        says = f"{done.hours} hours in one object each, for {done.replaced} objects"
        get_run_logger().info("logs of %s: %s%s", model, says, "" if done.complete else "; there is more for next time")
        if done.damaged:
            get_run_logger().warning("damaged objects are left as they are: %s", ", ".join(done.damaged))


@task(timeout_seconds=LONG)
def sweep_objects(request: SweepRequest) -> SweepReport:
    """Delete what nothing needs any more, and show how much of which place."""
    report = sweep(open_installation().store, request.retention, request.dry_run)
    verb = "would be deleted" if request.dry_run else "were deleted"
    says = f"{report.objects:,} objects of {report.size / 2**20:,.1f} MiB {verb}"
    get_run_logger().info("%s; %d unfinished writes were removed", says, report.unfinished)
    rows = "\n".join(f"| `{each.place}` | {each.objects:,} | {each.size:,} |" for each in report.swept)
    text = f"{says}.\n\n| place | objects | bytes |\n| --- | --- | --- |\n{rows}"
    create_markdown_artifact(text, key="sweep", description="What the sweep has deleted")
    return report


@task(retries=2, retry_delay_seconds=5, timeout_seconds=LONG)
def sweep_artifacts(request: SweepRequest) -> int:
    """Delete old artifacts of Prefect that have a newer version; returns their number."""
    before = datetime.now(UTC) - timedelta(days=request.retention.artifacts)
    with get_client(sync_client=True) as client:
        old = [*_outdated(client, before)]
        for artifact in () if request.dry_run else old:
            _delete(client, artifact)
    get_run_logger().info("%d old artifacts %s", len(old), "would be deleted" if request.dry_run else "were deleted")
    return len(old)


def _outdated(client: SyncPrefectClient, before: datetime) -> Iterator[UUID]:
    """Artifacts of before a time with a newer version; the server is the installation's own."""
    newer, offset = set[str | None](), 0
    while page := client.read_artifacts(sort=ArtifactSort.CREATED_DESC, limit=PAGE, offset=offset):
        for artifact in page:
            if artifact.key in newer and artifact.created and artifact.created < before:
                yield artifact.id
            newer.add(artifact.key)
        offset += PAGE


def _delete(client: SyncPrefectClient, artifact: UUID) -> None:
    try:
        client.delete_artifact(artifact)
    except ObjectNotFound:  # another run has
        return
