"""`dyeworks outbox`: uploads whose ingest was not started yet, dead letters, and events queued for Prefect."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.options import AsJson
from tasks.core.config.installation import read_settings
from tasks.core.data.remarks import shown
from tasks.core.errors import DyeworksError

if TYPE_CHECKING:
    from deployments.gateway.batches import UploadBatch, UploadBatches

app = typer.Typer(no_args_is_help=True, help="Uploads and events that wait for the Prefect server.")


class OutboxUnreadable(DyeworksError):
    """The database of the gateway cannot be used."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the outbox cannot be used ({problem}); check DYEWORKS_OUTBOX")


@app.command("list")
def list_batches(
    dead: Annotated[bool, typer.Option("--dead", help="Only batches that the Prefect server rejects.")] = False,
    as_json: AsJson = False,
) -> None:
    """List uploads whose ingest was not started yet.

    Batches are listed by age; what has just arrived is in none yet, and listed by its dataset.
    """
    with _opened() as outbox:
        bursts = [] if dead else outbox.bursts()
        batches = [batch for batch in outbox.unsent() if batch.dead or not dead]
    if as_json:
        print(json.dumps([*(burst._asdict() for burst in bursts), *(batch._asdict() for batch in batches)], indent=2))
        return
    for burst in bursts:
        print(f"{_time(burst.first)}  not in a batch yet  dataset {shown(burst.dataset)}  {burst.objects} objects")
    for batch in batches:
        print(_line(batch))
    if not bursts and not batches:
        print("no dead letter" if dead else "nothing waits")


@app.command("replay")
def replay(
    names: Annotated[list[str] | None, typer.Argument(metavar="[BATCH]...", help="Dead letters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
) -> None:
    """Have dead letters tried again.

    The gateway starts their ingests within a minute.
    """
    if bool(names) == every:
        raise typer.BadParameter("name dead letters, or give --all", param_hint="BATCH")
    with _opened() as outbox:
        replayed = outbox.replay(names or ())
    for batch in replayed:
        print(f"{batch.id}  is tried again")
    if not replayed:
        print("no dead letter")


@app.command("resend")
def resend(
    count: Annotated[int, typer.Option("--count", min=0, help="Number of newest sent events to send again.")] = 3,
) -> None:
    """Send queued events, and the newest sent ones again.

    A Prefect server that was killed may have lost the events that it had just accepted.
    """
    from tasks.core.installation import open_installation
    from tasks.core.outbox import replay, send_all

    installation = open_installation()
    replay(installation.store, installation.server, count)
    for fault in send_all(installation.store, installation.server).faults.values():
        print(f"dyeworks: {fault}", file=sys.stderr)


@contextmanager
def _opened() -> "Iterator[UploadBatches]":
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    from deployments.gateway.batches import UploadBatches
    from deployments.gateway.database import Database

    database = Database(read_settings().outbox_url, create=False)
    try:
        yield UploadBatches(database)
    except (SQLAlchemyError, OSError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise OutboxUnreadable(f"{database.url.render_as_string()}: {reason}") from error
    finally:
        database.close()


def _line(batch: "UploadBatch") -> str:
    state = "dead" if batch.dead else f"rejected {batch.refusals} times" if batch.refusals else "waits"
    reason = f"  {shown(' '.join(batch.reason.split()))}" if batch.reason else ""
    return f"{batch.id}  {state}  dataset {shown(batch.dataset)}  {batch.objects} objects{reason}"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
