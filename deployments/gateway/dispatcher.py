"""Makes batches of uploads when their burst has ended, and starts one ingest for each. All state is in the outbox."""

import logging
import random
import time
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from deployments.gateway.batches import UploadBatch, UploadBatches
from deployments.gateway.ingest_runs import IngestRuns, PrefectUnavailable, RunRefused
from tasks.core.errors import DyeworksError, SettingError
from tasks.core.prefect_server import PrefectServer

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds until something is tried again, before jitter
REST_SECONDS, REST = 0.2, 10  # between two looks at what has arrived: so long, and so many times what one has taken
LOOK_SECONDS = 30.0  # after which other gateways' arrivals are looked for
CLEAN_SECONDS = 3600.0  # between two deletions of old rows
REFUSALS, PATIENCE = 10, 3600.0  # after both, a batch is a dead letter if the server has taken others

log = logging.getLogger("dyeworks.gateway")


class Dispatcher:
    """A thread that starts runs; each gateway of an outbox may have one."""

    def __init__(self, batches: UploadBatches, server: PrefectServer, quiet: float, longest: float) -> None:
        """A burst ends when it was quiet for so many seconds, or has lasted so long."""
        self.batches, self.server, self.quiet, self.longest = batches, server, quiet, longest
        self.runs_started = 0  # by this process
        self._woken, self._stopped = Event(), Event()
        self.problem = ""  # why no run is started now; empty when nothing is wrong
        self._rest, self._broken = REST_SECONDS, ""
        self._failures, self._retry, self._clean = 0, 0.0, 0.0
        self._thread = Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a request that is under way is not waited for, since it can be repeated."""
        self._stopped.set()
        self._woken.set()
        self._thread.join(timeout=REST_SECONDS)

    def wake(self) -> None:
        """Look for arrivals now."""
        self._woken.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._rest):
            self._woken.clear()
            self._woken.wait(self._guarded_pass())

    def _guarded_pass(self) -> float:
        try:
            wait = self.run_once()
        except Exception as error:  # thread boundary: the database is away
            expected = isinstance(error, DyeworksError | SQLAlchemyError | OSError)
            if str(error) != self._broken:  # it is logged once while it lasts
                log.error("the outbox cannot be used: %s", error, exc_info=not expected)
            self._broken = str(error)
            return random.uniform(0, LOOK_SECONDS)
        self._broken = ""
        return wait

    def run_once(self) -> float:
        """Make the batches that are due, start their runs; returns the seconds until there may be more to do."""
        now = time.time()
        if now >= self._clean:
            self._clean = now + CLEAN_SECONDS
            self.batches.delete_old()
        started = time.monotonic()
        ends = self._end_bursts(now)
        self._rest = min(max(REST_SECONDS, REST * (time.monotonic() - started)), LOOK_SECONDS)
        if time.monotonic() >= self._retry and (due := self.batches.due(time.time())):
            self._send(due)
        return self._until_next(ends)

    def _end_bursts(self, now: float) -> list[float]:
        """Make batches; returns when the other bursts end."""
        ends = list[float]()
        for burst in self.batches.bursts():
            end = burst.end(self.quiet, self.longest, now)
            if end > now:
                ends.append(end)
            elif batch := self.batches.make(burst.dataset):
                log.info("batch %s: %d objects of dataset %r", batch.id, batch.objects, batch.dataset)
        return ends

    def _until_next(self, ends: list[float]) -> float:
        now, due = time.time(), self.batches.next_due()
        waits = [LOOK_SECONDS, *(end - now for end in ends)]
        if due is not None:
            waits.append(max(due - now, self._retry - time.monotonic()))
        return max(0.0, min(waits))

    def _send(self, due: list[UploadBatch]) -> None:
        try:
            with self.server.connect() as connection:
                runs = IngestRuns(connection)
                for batch in due:
                    if not self._stopped.is_set():
                        self._start_run(runs, batch)
        except (PrefectUnavailable, SettingError) as error:
            self._failed(str(error))
        else:
            self._failures, self.problem = 0, ""

    def _start_run(self, runs: IngestRuns, batch: UploadBatch) -> None:
        try:
            run, new = runs.start(batch.dataset, batch.key)
        except RunRefused as error:
            self._refused(batch, str(error))
        except PrefectUnavailable:  # perhaps because of this one
            self.batches.postpone(batch, _wait(self._failures))
            raise
        else:
            self.batches.record_run(batch, run)
            self.runs_started += new
            log.info("batch %s: run %s of dataset %r", batch.id, run, batch.dataset)

    def _refused(self, batch: UploadBatch, reason: str) -> None:
        since = batch.refused or time.time()
        patient = batch.refusals + 1 < REFUSALS or time.time() - since < PATIENCE
        dead = not patient and self.batches.any_sent_since(since)
        log.log(logging.ERROR if dead else logging.WARNING, "batch %s%s: %s", batch.id, " is dead" * dead, reason)
        self.batches.record_refusal(batch, reason, _wait(batch.refusals), dead=dead)

    def _failed(self, problem: str) -> None:
        """Wait before the next try; a problem is logged once while it lasts."""
        if problem != self.problem:
            log.warning("no ingest is started until this ends: %s", problem)
        self.problem = problem
        self._retry = time.monotonic() + _wait(self._failures)
        self._failures += 1


def _wait(failures: int) -> float:
    """Seconds until the next try: exponential, with full jitter."""
    return random.uniform(0, min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** min(failures, 10)))
