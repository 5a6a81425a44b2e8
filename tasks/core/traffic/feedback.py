"""Votes of visitors on the pictures that were rendered for them; no prompts.

Votes are written at least once; of the votes on one picture the last counts.
"""

from collections.abc import Iterable
from datetime import datetime

from tasks.core.store import Store
from tasks.core.traffic.hourly import Line, append_lines, read_span


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
    append_lines(store, feedback_prefix(model), votes)


def feedback_prefix(model: str) -> str:
    """The place of the votes on a model's pictures."""
    return f"feedback/{model}/"


def read_votes(store: Store, model: str, start: datetime, end: datetime) -> list[Vote]:
    """The votes with start <= time < end as they were given, also those that were taken back later; by time."""
    return in_order(read_span(store, Vote, feedback_prefix(model), start, end))


def in_order(votes: Iterable[Vote]) -> list[Vote]:
    """Each vote once, in the order of time."""
    return sorted(set(votes), key=lambda vote: (vote.time, vote.request_id))


def last_words(votes: Iterable[Vote]) -> list[Vote]:
    """One vote for each picture, the last; they come in the order of time."""
    return list({vote.request_id: vote for vote in votes}.values())
