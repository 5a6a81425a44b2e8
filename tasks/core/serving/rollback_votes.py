"""The roll-back test on votes: is the served generation worse than the one before? Pure.

Votes come in one by one, and a test after each of them would reject every model sooner or later. So they are tested
only when the number of sessions has reached `min_sessions` and then each time it has doubled, and each look may
spend half of what is left of `alpha`: over all looks a generation that is liked as much is rolled back with a
probability of at most `alpha` (Bonferroni). A look uses the votes up to the moment at which that number was
reached, whenever it is taken, so that a repeated test, or one after a restart, is no further look.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from tasks.core.config.presets import RollbackSpec
from tasks.core.store.documents import Document
from tasks.core.traffic.feedback import Vote, last_words


class Tally(Document):
    """Sessions that voted, and those of them that disliked more than half of their pictures."""

    sessions: int
    disliked: int


class VoteTest(Document):
    """The result of one look at the votes."""

    number: int
    served: Tally
    before: Tally | None  # None: too few have voted on the one before, `usual` stands for it
    usual: float  # share of sessions that disliked the one before
    p: float  # probability of at least as many dislikes if it is no worse
    level: float
    worse: bool

    @property
    def says(self) -> str:
        """The result in words."""
        text = f"{self.served.disliked} of {self.served.sessions} sessions disliked its pictures"
        old = self.before and f"{self.before.disliked} of {self.before.sessions} those of the one before"
        return f"{text}, {old or f'{self.usual:.0%} are taken as usual'} (look {self.number}, p = {self.p:.2g})"


def judge(served: Sequence[Vote], before: Sequence[Vote], spec: RollbackSpec) -> VoteTest | None:
    """The look at which a generation is found worse than the one before, else the last; None before the first.

    Args:
        served: the votes on what is served, as they were given, in the order of time.
        before: those on what was served before it; of these count the ones that are older than all of `served`.
        spec: level, number of sessions, and what stands for `before` when fewer sessions than that gave it.
    """
    found = None
    old = tally(vote for vote in before if served and vote.time < served[0].time)
    for number, votes in enumerate(_looks(served, spec.min_sessions), 1):
        found = _look(number, tally(votes), old if old.sessions >= spec.min_sessions else None, spec)
        if found.worse:
            break
    return found


def tally(votes: Iterable[Vote]) -> Tally:
    """Count sessions (of an address that is not trusted: all of its sessions as one), not votes."""
    votes_of: dict[str, list[bool]] = defaultdict(list)
    for vote in last_words(votes):
        votes_of[vote.counts_as].append(vote.liked)
    return Tally(sessions=len(votes_of), disliked=sum(2 * sum(liked) < len(liked) for liked in votes_of.values()))


def _looks(votes: Sequence[Vote], wanted: int) -> Iterator[Sequence[Vote]]:
    """The votes up to each moment at which they are looked at."""
    seen = set[str]()
    for place, vote in enumerate(votes, 1):
        seen.add(vote.counts_as)
        if len(seen) == wanted:
            yield votes[:place]
            wanted *= 2


def _look(number: int, served: Tally, before: Tally | None, spec: RollbackSpec) -> VoteTest:
    usual = before.disliked / before.sessions if before else spec.usual_dislikes
    p = fisher_tail(served, before) if before else binomial_tail(served, usual)
    level = spec.alpha / 2**number
    risen = served.disliked / served.sessions - usual >= spec.min_rise
    return VoteTest(
        number=number, served=served, before=before, usual=usual, p=p, level=level, worse=p <= level and risen
    )


def fisher_tail(served: Tally, before: Tally) -> float:
    """Probability of at least as many dislikes of `served`, given all dislikes of both.

    Fisher's exact test, one-sided: the upper tail of the hypergeometric distribution (Fisher 1935, The Design of
    Experiments, section 21.1 on).
    """
    from scipy.stats import hypergeom  # noqa: PLC0415  late: it takes most of a second

    n, m, dislikes = served.sessions, before.sessions, served.disliked + before.disliked
    return float(hypergeom.sf(served.disliked - 1, n + m, dislikes, n))


def binomial_tail(served: Tally, usual: float) -> float:
    """Probability of at least as many dislikes, when each session dislikes with probability `usual`."""
    from scipy.stats import binom  # noqa: PLC0415

    return float(binom.sf(served.disliked - 1, served.sessions, usual))
