"""Votes on recently rendered pictures."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from deployments.storefront.errors import PictureUnknown, VotesExhausted
from tasks.core import clock
from tasks.core.traffic.feedback import Vote

MAX_VOTES = 10  # votes on one picture, so that each picture adds a bounded number of lines to the log


@dataclass
class ServedPicture:
    """The release that rendered a picture, its session and address (keyed hashes), and its number of votes."""

    release: str
    generation: int
    session: str
    voter: str = ""
    votes: int = 0


class Feedback:
    """Holds the newest pictures; a vote counts for the session that the picture was rendered for."""

    def __init__(self, model: str, remembered: int, *consumers: Callable[[Vote], None]) -> None:
        self.model, self.remembered, self.consumers = model, remembered, consumers
        self.pictures: OrderedDict[str, ServedPicture] = OrderedDict()
        self.lock = threading.Lock()

    def remember(self, request_id: str, drawn: ServedPicture) -> None:
        """Accept votes on a picture."""
        with self.lock:
            self.pictures[request_id] = drawn
            if len(self.pictures) > self.remembered:
                self.pictures.popitem(last=False)

    def knows(self, request_id: str) -> bool:
        """Whether it was rendered here lately."""
        with self.lock:
            return request_id in self.pictures

    def vote(self, request_id: str, liked: bool) -> Vote:
        """Pass a vote to all consumers; raises PictureUnknown and VotesExhausted."""
        drawn = self._count(request_id)
        vote = Vote(
            request_id=request_id,
            model=self.model,
            time=clock.now(),
            liked=liked,
            release=drawn.release,
            generation=drawn.generation,
            session=drawn.session,
            voter=drawn.voter,
        )
        for consume in self.consumers:
            consume(vote)
        return vote

    def _count(self, request_id: str) -> ServedPicture:
        with self.lock:
            drawn = self.pictures.get(request_id)
            if drawn is None:
                raise PictureUnknown(request_id)
            if drawn.votes >= MAX_VOTES:
                raise VotesExhausted(request_id)
            drawn.votes += 1
        return drawn
