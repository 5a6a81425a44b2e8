"""Rates of pictures: of a key, of an address and of a session."""

import math
import threading
import time
from collections.abc import Sequence
from typing import Literal

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from tasks.core.access.errors import LimitExceeded
from tasks.core.errors import SettingError

Kind = Literal["key", "address", "session"]
COUNTERS = 20_000  # of a kind: those of the last two windows of 10,000 identities


class BoundedStorage(MemoryStorage):
    """Counters in memory; the oldest are dropped when there are too many.

    The library's own have no bound, and a thread walks over all of them after each hit.
    """

    STORAGE_SCHEME = ["dyeworks-bounded"]  # noqa: RUF012  as the library declares it

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count; returns the counter's value. Not thread-safe."""
        count = self.storage[key] = self.get(key) + amount
        self.expirations.setdefault(key, time.time() + expiry)
        if len(self.expirations) > COUNTERS:
            self.clear(next(iter(self.expirations)))
        return count


class RateLimits:
    """Counts pictures against the rates of the installation; thread-safe.

    A rate is text such as `600/minute` or `60/minute;500/day`; empty: none.

    Raises:
        SettingError: a rate cannot be parsed.
    """

    def __init__(self, key: str = "", address: str = "", session: str = "") -> None:
        rates: dict[Kind, str] = {"key": key, "address": address, "session": session}
        self.rates = {kind: _parsed(kind, rate) for kind, rate in rates.items()}
        self.storages = {kind: BoundedStorage() for kind in rates}
        self.counters = {kind: SlidingWindowCounterRateLimiter(self.storages[kind]) for kind in rates}
        self.lock = threading.Lock()

    def spend(self, kind: Kind, identity: str, cost: int = 1) -> None:
        """Count so many pictures; raises LimitExceeded, and then counts none."""
        self.spend_all([(kind, identity)], cost)

    def spend_all(self, counted: Sequence[tuple[Kind, str]], cost: int) -> None:
        """Count so many pictures for each of these identities; raises LimitExceeded, and then counts none of them."""
        items = [(kind, identity, item) for kind, identity in counted for item in self.rates[kind]]
        if not cost:
            return
        with self.lock:
            for kind, identity, item in items:
                if not self.counters[kind].test(item, identity, cost=cost):
                    raise LimitExceeded(kind, _words(item), cost, self._wait(kind, identity, item, cost))
            for kind, identity, item in items:
                self.counters[kind].hit(item, identity, cost=cost)

    def _wait(self, kind: Kind, identity: str, item: RateLimitItem, cost: int) -> int:
        """Whole seconds until so many fit; where they never do, those of the rate.

        The library estimates the rate as the current window's count, and the part of the window before that is not over
        yet: the estimate falls linearly, next through that part, then through the current window's.
        """
        span, room = item.get_expiry(), item.amount - cost + 1  # the estimate must be below `room`
        before, _, now, ends = self.storages[kind].get_sliding_window(item.key_for(identity), span)
        left = ends - span  # until the current window is over
        if room <= 0:
            return span
        wait = left - span * (room - now) / before if now < room else left + span * (1 - room / now)
        return max(1, math.floor(wait) + 1)


def _parsed(kind: Kind, rate: str) -> list[RateLimitItem]:
    name = f"DYEWORKS_LIMIT_{kind.upper()}"
    if not rate.strip():
        return []
    try:
        items = parse_many(rate)
    except ValueError as error:
        raise SettingError(name, f"{rate!r} is not a rate: write one as 60/minute, or leave it empty") from error
    if any(item.amount < 1 for item in items):
        raise SettingError(name, f"{rate!r} allows nothing; a model is closed by `serving` of its configuration")
    return items


def _words(item: RateLimitItem) -> str:
    multiple = f"{item.multiples} {item.GRANULARITY.name}s" if item.multiples > 1 else item.GRANULARITY.name
    return f"{item.amount} pictures in {multiple}"
