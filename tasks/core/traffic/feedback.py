"""Votes of visitors on the pictures that were rendered for them; no prompts.

Votes are written at least once; of the votes on one picture the last counts.
"""

from collections.abc import Iterable
from datetime import datetime

from tasks.core.store import Store
from tasks.core.traffic.hourly import Line, append_lines, list_hours, parse_lines


class Vote(Line):
    """Whether a visitor liked the picture of a request."""

    liked: bool
    release: str  # that rendered it; empty: the bare base
    generation: int
    session: str  # keyed hash of the visitor's
    voter: str = ""  # keyed hash of the address, where that is what counts once

    @property
    def counts_as(self) -> str:
        """Identity of the voter: it counts once, however often it votes."""
        return self.voter or self.session


def write_votes(store: Store, model: str, votes: Iterable[Vote]) -> None:
    """Append votes to the log."""
    append_lines(store, f"feedback/{model}/", votes)


def read_votes(store: Store, model: str, start: datetime, end: datetime) -> list[Vote]:
    """The votes with start <= time < end as they were given, also those that were taken back later; by time."""
    hours = list_hours(store, f"feedback/{model}/", start, end)
    found = (vote for keys in hours.values() for key in keys for vote in parse_lines(Vote, store.read(key), key))
    return in_order(vote for vote in found if start <= vote.time < end)


def in_order(votes: Iterable[Vote]) -> list[Vote]:
    """Each vote once, in the order of time."""
    return sorted(set(votes), key=lambda vote: (vote.time, vote.request_id))


def last_words(votes: Iterable[Vote]) -> list[Vote]:
    """One vote for each picture, the last; they come in the order of time."""
    return list({vote.request_id: vote for vote in votes}.values())
