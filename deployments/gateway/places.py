"""How many requests may be under way at once, in all and of one sender."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.problems import ApiError


class TooManyAtOnce(ApiError):
    """Too many requests arrive at once."""

    status = 503
    code = "unavailable"

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} such requests are arriving already; send it again", retry_after=5)
        self.most = most


class Places:
    """Places for requests; to be used on one event loop."""

    def __init__(self, most: int, of_one: int) -> None:
        self.most, self.of_one = most, of_one
        self.used = Counter[str]()  # by sender

    @contextmanager
    def taken(self, sender: str = "") -> Iterator[None]:
        """Take a place for the block; raises TooManyAtOnce."""
        if self.used[sender] >= self.of_one:
            raise TooManyAtOnce(self.of_one)
        if self.used.total() >= self.most:
            raise TooManyAtOnce(self.most)
        self.used[sender] += 1
        try:
            yield
        finally:
            self.used -= Counter([sender])  # it keeps no sender without a place
