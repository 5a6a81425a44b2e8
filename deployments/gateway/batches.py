"""Batches of uploads: rows of the outbox, each of which starts one run."""

import secrets
import time
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, update

from deployments.gateway.database import Database, arrivals, batches, waiting
from tasks.core.errors import DyeworksError

KEPT_SECONDS = 30 * 24 * 3600.0  # after a batch was sent, and in which a repeated notification is recognised
PART = 100  # batches at once
FAR_SECONDS = 300.0  # no batch waits longer, unless the clock was set back

is_open = batches.c.sent.is_(None) & ~batches.c.dead


class BatchUnknown(DyeworksError):
    """There is no dead letter of this name."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"no dead letter {', '.join(names)}; see `dyeworks outbox list --dead`")
        self.names = names


class Burst(NamedTuple):
    """Uploads of a dataset that are in no batch yet: when the first and the last arrived, whether one ends it."""

    dataset: str
    objects: int
    first: float
    last: float
    ready: bool

    def end(self, quiet: float, longest: float, now: float) -> float:
        """When it becomes a batch; at once also where a clock that was set back would have it wait."""
        return now if self.ready or self.first > now + longest else min(self.last + quiet, self.first + longest)


class UploadBatch(NamedTuple):
    """Uploads of a dataset that one run ingests; times are in seconds since 1970."""

    id: str
    dataset: str
    objects: int
    created: float
    due: float  # when its run is to be started
    refused: float | None = None  # when the server first rejected it
    refusals: int = 0
    reason: str = ""  # of the last refusal
    run: str = ""  # the id of its run
    sent: float | None = None  # when that was started
    dead: bool = False  # a dead letter

    @property
    def key(self) -> str:
        """The idempotency key of its run."""
        return f"upload-{self.id}"


class OutboxState(NamedTuple):
    """What waits: objects and batches whose run is not started, dead letters, and seconds since the oldest came."""

    objects: int
    batches: int
    dead: int
    oldest: float


class UploadBatches:
    """The batches of an outbox; several processes may share them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def bursts(self) -> list[Burst]:
        """What is in no batch, by dataset."""
        arrived, ready = arrivals.c.arrived, func.max(arrivals.c.ready.cast(batches.c.refusals.type))
        columns = (arrivals.c.dataset, func.count(), func.min(arrived), func.max(arrived), ready)
        with self.database.reading() as connection:
            found = connection.execute(select(*columns).where(waiting).group_by(arrivals.c.dataset)).all()
        return [Burst(dataset, count, first, last, bool(ends)) for dataset, count, first, last, ends in found]

    def arrived(self, identities: Collection[str]) -> dict[str, float]:
        """When arrivals with these identities came."""
        chosen = select(arrivals.c.identity, arrivals.c.arrived).where(arrivals.c.identity.in_(identities))
        with self.database.reading() as connection:
            return {row.identity: row.arrived for row in connection.execute(chosen)}

    def make(self, dataset: str) -> UploadBatch | None:
        """Put the uploads of a dataset that are in no batch into a new one; None where there are none."""
        now = time.time()
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"
        mine = update(arrivals).where(waiting, arrivals.c.dataset == dataset).values(batch=name)
        with self.database.writing() as connection:
            if not (objects := connection.execute(mine).rowcount):
                return None
            batch = UploadBatch(name, dataset, objects, now, now)
            connection.execute(insert(batches).values(batch._asdict()))
        return batch

    def due(self, now: float) -> list[UploadBatch]:
        """Some batches whose run is to be started, those that were never rejected first."""
        due = (batches.c.due <= now) | (batches.c.due > now + FAR_SECONDS)
        return self._select(is_open & due, batches.c.refusals, batches.c.due)[:PART]

    def unsent(self) -> list[UploadBatch]:
        """Batches that wait, and dead letters, by age."""
        return self._select(batches.c.sent.is_(None), batches.c.created)

    def next_due(self) -> float | None:
        """When the next run is to be started."""
        with self.database.reading() as connection:
            due: float | None = connection.scalar(select(func.min(batches.c.due)).where(is_open))
            return due

    def record_run(self, batch: UploadBatch, run: str) -> None:
        """Record that the run of a batch was created."""
        self._update(batch, run=run, sent=time.time(), reason="")

    def record_refusal(self, batch: UploadBatch, reason: str, wait: float, *, dead: bool) -> None:
        """Record that the server has rejected a batch, which is tried again after so many seconds unless it is dead."""
        now = time.time()
        changes = {"refusals": batch.refusals + 1, "refused": batch.refused or now, "reason": reason[:500]}
        self._update(batch, **changes, due=now + wait, dead=dead)

    def postpone(self, batch: UploadBatch, wait: float) -> None:
        """Try a batch again after so many seconds, and others before it."""
        self._update(batch, due=time.time() + wait)

    def any_sent_since(self, moment: float) -> bool:
        """Whether the run of any batch was created since then."""
        with self.database.reading() as connection:
            return connection.scalar(select(batches.c.id).where(batches.c.sent > moment).limit(1)) is not None

    def replay(self, names: Collection[str] = ()) -> list[UploadBatch]:
        """Have the named dead letters tried again, all where none is named; raises BatchUnknown."""
        dead = self._select(batches.c.dead, batches.c.created)
        if unknown := set(names) - {batch.id for batch in dead}:
            raise BatchUnknown(sorted(unknown))
        chosen = [batch for batch in dead if not names or batch.id in names]
        for batch in chosen:
            self._update(batch, dead=False, refusals=0, refused=None, due=time.time())
        return chosen

    def state(self) -> OutboxState:
        """What waits now."""
        bursts, unsent = self.bursts(), self.unsent()
        open_ones = [batch for batch in unsent if not batch.dead]
        objects = sum(burst.objects for burst in bursts) + sum(batch.objects for batch in open_ones)
        times = [*(burst.first for burst in bursts), *(batch.created for batch in open_ones)]
        oldest = max(0.0, time.time() - min(times)) if times else 0.0
        return OutboxState(objects, len(open_ones), len(unsent) - len(open_ones), oldest)

    def delete_old(self) -> int:
        """Delete what was sent more than KEPT_SECONDS ago; returns how many batches."""
        old = self._select(batches.c.sent < time.time() - KEPT_SECONDS, batches.c.sent)
        for batch in old:  # each in a transaction of its own, so that no arrival waits for all
            with self.database.writing() as connection:
                connection.execute(delete(arrivals).where(arrivals.c.batch == batch.id))
                connection.execute(delete(batches).where(batches.c.id == batch.id))
        return len(old)

    def _select(self, condition: ColumnElement[bool], *order: ColumnElement[object]) -> list[UploadBatch]:
        with self.database.reading() as connection:
            return [_batch(row) for row in connection.execute(select(batches).where(condition).order_by(*order))]

    def _update(self, batch: UploadBatch, **changes: object) -> None:
        with self.database.writing() as connection:
            connection.execute(update(batches).where(batches.c.id == batch.id).values(changes))


def _batch(row: Row[tuple[object, ...]]) -> UploadBatch:
    return UploadBatch(**row._mapping)
