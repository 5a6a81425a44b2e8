"""The watchdog's thread: tests the served generation by its votes, and requests a roll-back once per generation.

It never renders, and rendering never waits for it.
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
from tasks.core.installation import Installation
from tasks.core.outbox import flush, is_known, is_waiting
from tasks.core.outbox import queue as put_into_outbox
from tasks.core.registry.channel import Channel, read_channel
from tasks.core.registry.ledger import history
from tasks.core.serving.rollback_votes import judge
from tasks.core.traffic.feedback import Vote, in_order, read_votes
from tasks.core.traffic.hourly import HOUR

log = logging.getLogger("dyeworks.storefront")
EVER = datetime(2000, 1, 1, tzinfo=UTC)
MOST = 20_000  # votes held of one generation: nine interim tests from 25 sessions on


class RollbackWatchdog:
    """Holds the votes on the served generation and on the previous release."""

    def __init__(self, installation: Installation, model: ModelConfig) -> None:
        self.store, self.server = installation.store, installation.server
        self.model, self.spec = model.name, model.preset.rollback
        self.incoming: queue.Queue[Vote] = queue.Queue(maxsize=MOST)
        self.reports: queue.SimpleQueue[Unhealthy] = queue.SimpleQueue()
        self.votes: list[Vote] = []
        self.counted = 0  # number of votes at the last test
        self.channel: Channel | None = None
        self.eligible = False  # whether votes can roll back the served generation
        self.problem = ""  # the reason if the votes are significantly worse; empty otherwise
        self.unhealthy: dict[int, Unhealthy] = {}  # by generation: reports not yet in the outbox
        self.queued: dict[int, Event] = {}  # by generation: events in the outbox, or sent
        self.warned = ""
        self.stopping, self.wake = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._work, name="rollback-watchdog", daemon=True)

    def start(self) -> None:
        """Start the watchdog's thread."""
        self.thread.start()

    def stop(self) -> None:
        """Stop; unsent events are sent by the next flow that flushes the outbox."""
        self.stopping.set()
        self.wake.set()
        self.thread.join(timeout=5)

    def add(self, vote: Vote) -> None:
        """Queue a vote; if the queue is full, the vote is only in the log."""
        with contextlib.suppress(queue.Full):
            self.incoming.put_nowait(vote)

    def report(self, unhealthy: Unhealthy) -> None:
        """Queue a report of the engine about a generation."""
        self.reports.put(unhealthy)
        self.wake.set()

    def _work(self) -> None:
        while not self.stopping.is_set():
            for step in (self.check_votes, self.send_reports):
                try:
                    step()
                except Exception as error:  # thread boundary: retried on any error of a store's client
                    self._warn(f"the watchdog cannot use the store, retrying: {error}")
            self.wake.wait(self.spec.check_seconds)
            self.wake.clear()

    def check_votes(self) -> None:
        """Test the served generation by its votes, if there are new ones."""
        while not self.incoming.empty():
            self.votes.append(self.incoming.get())
        self.votes = bounded(self.votes, self.channel.generation if self.channel else 0)
        self._update_channel()
        if len(self.votes) != self.counted:
            self._judge()
            self.counted = len(self.votes)

    def send_reports(self) -> None:
        """Queue and send the reports that are pending."""
        while not self.reports.empty():
            self._add_report(self.reports.get())
        self._queue()
        self._send()

    def _update_channel(self) -> None:
        """When the served generation changes, read the votes on it and on the previous release."""
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
        self.eligible = entry is not None and entry.action != "roll_back"  # an older release was tested when it was new
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
        """Add events to the outbox, unless they are there or were sent, as before a restart."""
        for generation, payload in list(self.unhealthy.items()):
            key = f"{self.model}-{generation}"
            event = make_event("dyeworks.champion.unhealthy", self.model, payload, key=key)
            if not is_known(self.store, event):
                put_into_outbox(self.store, event)
            self.queued[generation] = event
            del self.unhealthy[generation]

    def _send(self) -> None:
        """Flush the outbox while it contains an event of this storefront."""
        if not any(is_waiting(self.store, event) for event in self.queued.values()):
            return
        try:
            flush(self.store, self.server)
        except (EventUndelivered, EventRefused) as error:
            self._warn(str(error))

    def _warn(self, text: str) -> None:
        if text != self.warned:  # else it would be logged every few seconds
            log.error("%s", text)
        self.warned = text


def bounded(votes: list[Vote], generation: int) -> list[Vote]:
    """If there are too many votes, the first on the served generation and the last on the previous release."""
    if len(votes) <= MOST:
        return votes
    served = [v for v in votes if v.generation == generation]
    before = [v for v in votes if v.generation != generation]
    return in_order([*before[-MOST:], *served[:MOST]])


def _concerns(vote: Vote, channel: Channel) -> bool:
    return vote.generation == channel.generation or vote.release == channel.previous
