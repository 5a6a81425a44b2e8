"""The guards' thread: judges what is served by its votes, and sends for a roll-back, once for each generation.

It never renders and nothing that renders waits for it.
"""

import contextlib
import logging
import queue
import threading
from datetime import UTC, datetime

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.errors import EventRefused, EventUndelivered
from tasks.core.events import Event, Unhealthy, make_event
from tasks.core.outbox import flush, is_known, is_waiting
from tasks.core.outbox import queue as put_into_outbox
from tasks.core.registry.channel import Channel, read_channel
from tasks.core.registry.ledger import history
from tasks.core.serving.rollback_test import judge
from tasks.core.store import Store
from tasks.core.traffic.feedback import Vote, in_order, read_votes
from tasks.core.traffic.hourly import HOUR

log = logging.getLogger("dyeworks.storefront")
EVER = datetime(2000, 1, 1, tzinfo=UTC)
MOST = 20_000  # votes that are held of one generation: nine looks at 25 sessions and more


class RollbackWatchdog:
    """Holds the votes on what is served and on what was served before it."""

    def __init__(self, store: Store, model: ModelConfig) -> None:
        self.store, self.model, self.spec = store, model.name, model.preset.guard
        self.incoming: queue.Queue[Vote] = queue.Queue(maxsize=MOST)
        self.reports: queue.SimpleQueue[Unhealthy] = queue.SimpleQueue()
        self.votes: list[Vote] = []
        self.counted = 0  # of them
        self.channel: Channel | None = None
        self.eligible = False  # whether votes can take back what is served
        self.problem = ""  # what they say against it; empty when nothing
        self.unhealthy: dict[int, Unhealthy] = {}  # by generation: what is still to be put into the outbox
        self.queued: dict[int, Event] = {}  # what is in it, or was sent
        self.warned = ""
        self.stopping, self.wake = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._work, name="guard", daemon=True)

    def start(self) -> None:
        """Begin to judge."""
        self.thread.start()

    def stop(self) -> None:
        """End; what was not sent yet is sent by the next flow that flushes the outbox."""
        self.stopping.set()
        self.wake.set()
        self.thread.join(timeout=5)

    def add(self, vote: Vote) -> None:
        """Take a vote; too many that could not be looked at yet are left to the log."""
        with contextlib.suppress(queue.Full):
            self.incoming.put_nowait(vote)

    def report(self, unhealthy: Unhealthy) -> None:
        """Take what the engine says of a generation."""
        self.reports.put(unhealthy)
        self.wake.set()

    def _work(self) -> None:
        while not self.stopping.is_set():
            for step in (self.check_votes, self.send_reports):
                try:
                    step()
                except Exception as error:  # the thread's boundary: whatever a store's client raises, it tries again
                    self._warn(f"the guards wait for the store: {error}")
            self.wake.wait(self.spec.check_seconds)
            self.wake.clear()

    def check_votes(self) -> None:
        """Judge what is served by its votes, those that are new among them."""
        while not self.incoming.empty():
            self.votes.append(self.incoming.get())
        self.votes = bounded(self.votes, self.channel.generation if self.channel else 0)
        self._update_channel()
        if len(self.votes) != self.counted:
            self._judge()
            self.counted = len(self.votes)

    def send_reports(self) -> None:
        """Send what is to be told and was not."""
        while not self.reports.empty():
            self._add_report(self.reports.get())
        self._queue()
        self._send()

    def _update_channel(self) -> None:
        """When something else is served than before, read the votes on it and on what was served before it."""
        channel, _ = read_channel(self.store, self.model)
        if channel is None or (self.channel and channel.generation == self.channel.generation):
            return
        entries = history(self.store, self.model)
        times = [e.time for e in entries if e.release in {channel.release, channel.previous}]
        since = min(times, default=EVER) if channel.previous else EVER
        known = read_votes(self.store, self.model, since, clock.now() + HOUR)
        concerned = [v for v in [*known, *self.votes] if _concerns(v, channel)]
        self.votes, self.counted = bounded(in_order(concerned), channel.generation), 0
        entry = next((e for e in entries if e.generation == channel.generation), None)
        self.eligible = entry is not None and entry.action != "roll_back"  # that one was judged when it was new
        self.channel, self.problem = channel, ""

    def _judge(self) -> None:
        if self.channel is None or not self.eligible or self.problem:
            return
        generation, votes = self.channel.generation, in_order(self.votes)
        served = [v for v in votes if v.generation == generation]
        before = [v for v in votes if v.generation != generation and v.release == self.channel.previous]
        found = judge(served, before, self.spec)
        if found and found.worse:
            self.problem = found.says
            log.error("generation %d is disliked: %s", generation, found.says)
            report = Unhealthy(generation=generation, release=self.channel.release, kind="feedback", reason=found.says)
            self._add_report(report)

    def _add_report(self, unhealthy: Unhealthy) -> None:
        if unhealthy.generation not in self.queued:
            self.unhealthy.setdefault(unhealthy.generation, unhealthy)

    def _queue(self) -> None:
        """Put into the outbox what is neither there nor was sent, as before a restart."""
        for generation, payload in list(self.unhealthy.items()):
            key = f"{self.model}-{generation}"
            event = make_event("dyeworks.champion.unhealthy", self.model, payload, key=key)
            if not is_known(self.store, event):
                put_into_outbox(self.store, event)
            self.queued[generation] = event
            del self.unhealthy[generation]

    def _send(self) -> None:
        """Send the outbox while something of this storefront is in it."""
        if not any(is_waiting(self.store, event) for event in self.queued.values()):
            return
        try:
            flush(self.store)
        except (EventUndelivered, EventRefused) as error:
            self._warn(str(error))

    def _warn(self, text: str) -> None:
        if text != self.warned:  # else it would be said every few seconds
            log.error("%s", text)
        self.warned = text


def bounded(votes: list[Vote], generation: int) -> list[Vote]:
    """Of too many votes the first on what is served, by which it is judged, and the last on what was before it."""
    if len(votes) <= MOST:
        return votes
    served = [v for v in votes if v.generation == generation]
    before = [v for v in votes if v.generation != generation]
    return in_order([*before[-MOST:], *served[:MOST]])


def _concerns(vote: Vote, channel: Channel) -> bool:
    return vote.generation == channel.generation or vote.release == channel.previous
