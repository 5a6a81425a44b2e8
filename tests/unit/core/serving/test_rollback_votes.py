"""The feedback guard: a worse generation is found soon, one that is liked as much is left alone for its whole life."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import comb

import numpy as np
import pytest

from tasks.core.config.presets import RollbackSpec
from tasks.core.serving.rollback_votes import Tally, binomial_tail, fisher_tail, judge, tally
from tasks.core.traffic.feedback import Vote

SPEC = RollbackSpec()
START = datetime(2026, 3, 1, tzinfo=UTC)
LIVES = 1500
LONGEST = 800  # sessions of a life: six looks


def vote(place: int, liked: bool, session: str = "", picture: str = "", generation: int = 2) -> Vote:
    return Vote(
        request_id=picture or f"{generation}-{place}",
        time=START + timedelta(days=generation, minutes=place),
        liked=liked,
        release=f"release-{generation}",
        generation=generation,
        session=session or f"s{place}",
    )


def votes(count: int, disliked: int, generation: int = 2) -> list[Vote]:
    """So many sessions of one vote each; the dislikes come evenly."""
    return [vote(i, (i + 1) * disliked // count == i * disliked // count, generation=generation) for i in range(count)]


POOL = {g: [(vote(i, True, generation=g), vote(i, False, generation=g)) for i in range(LONGEST)] for g in (1, 2)}


def drawn(rng: np.random.Generator, generation: int, count: int, dislikes: float) -> list[Vote]:
    return [POOL[generation][i][int(bad)] for i, bad in enumerate(rng.random(count) < dislikes)]


def lives(count: int, before: float, served: float, sessions: int, seed: int) -> Iterator[bool]:
    """Whether each of so many generations is found worse in its life."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        old = drawn(rng, 1, int(rng.integers(SPEC.min_sessions, 400)), before)
        found = judge(drawn(rng, 2, sessions, served), old, SPEC)
        yield found is not None and found.worse


@pytest.mark.parametrize("dislikes", [0.1, 0.2, 0.5])
def test_of_equally_liked_generations_at_most_one_in_a_hundred_is_ever_taken_back(dislikes: float) -> None:
    found = list(lives(LIVES, dislikes, dislikes, LONGEST, seed=1))
    assert sum(found) <= 0.01 * LIVES


def test_looking_after_every_vote_would_take_back_many_more() -> None:
    rng = np.random.default_rng(1)
    old = Tally(sessions=200, disliked=40)
    hits = 0
    for _ in range(60):
        bad = np.cumsum(rng.random(300) < 0.2)
        hits += any(
            fisher_tail(Tally(sessions=n, disliked=int(bad[n - 1])), old) <= SPEC.alpha for n in range(25, 300, 5)
        )
    assert hits > 0.01 * 60


def test_dislikes_that_go_from_a_fifth_to_a_half_are_found_within_a_hundred_sessions() -> None:
    found = list(lives(400, 0.2, 0.5, 100, seed=2))
    assert sum(found) >= 0.9 * len(found)


def test_against_the_stated_share_it_is_found_too_and_equals_are_left_alone() -> None:
    rng = np.random.default_rng(3)
    few = votes(SPEC.min_sessions - 1, 5, generation=1)
    worse = [judge(drawn(rng, 2, 100, 0.55), few, SPEC) for _ in range(200)]
    assert sum(look is not None and look.worse for look in worse) >= 180
    equal = [judge(drawn(rng, 2, LONGEST, SPEC.usual_dislikes), few, SPEC) for _ in range(600)]
    assert sum(look is not None and look.worse for look in equal) <= 6
    assert all(look is not None and look.before is None for look in equal)


def test_nothing_is_reported_before_the_first_look() -> None:
    assert judge([], votes(100, 10, 1), SPEC) is None
    assert judge(votes(SPEC.min_sessions - 1, SPEC.min_sessions - 1), votes(100, 0, 1), SPEC) is None
    first = judge(votes(SPEC.min_sessions, SPEC.min_sessions), votes(100, 0, 1), SPEC)
    assert first is not None
    assert (first.number, first.worse, first.level) == (1, True, SPEC.alpha / 2)
    assert "25 of 25 sessions disliked its pictures, 0 of 100 those of the one before" in first.says


def test_votes_between_two_looks_are_not_looked_at() -> None:
    quiet, angry = votes(25, 5), [vote(i, False) for i in range(25, 49)]
    found = judge([*quiet, *angry], votes(100, 20, 1), SPEC)
    assert found is not None
    assert (found.number, found.served, found.worse) == (1, Tally(sessions=25, disliked=5), False)
    then = judge([*quiet, *angry, vote(49, False)], votes(100, 20, 1), SPEC)
    assert then is not None
    assert (then.number, then.worse) == (2, True)


def test_what_a_look_has_seen_never_changes() -> None:
    bad = votes(25, 25)
    better = [
        *bad,
        *(vote(100 + i, True, session=f"s{i}") for i in range(20)),
        *(vote(200 + i, True) for i in range(9)),
    ]
    found = judge(better, votes(100, 0, 1), SPEC)
    assert found is not None
    assert (found.number, found.worse) == (1, True)


def test_votes_on_the_one_before_that_come_late_do_not_count() -> None:
    late = [Vote.model_validate(v.model_dump() | {"generation": 1, "release": "release-1"}) for v in votes(60, 0)]
    found = judge(votes(25, 10), late, SPEC)
    assert found is not None
    assert found.before is None


def test_a_rise_that_is_small_is_not_worth_it() -> None:
    strict = RollbackSpec(min_rise=0.4)
    served, before = votes(100, 50), votes(400, 80, 1)[:400]
    found, firm = judge(served, before, SPEC), judge(served, before, strict)
    assert found is not None
    assert firm is not None
    assert (found.worse, firm.worse) == (True, False)


def test_a_session_counts_once_whatever_it_votes() -> None:
    heavy = [vote(i, False, session="ada") for i in range(50)]
    mixed = [vote(60, True, session="bob"), vote(61, False, session="bob"), vote(62, True, session="eve")]
    assert tally([*heavy, *mixed]) == Tally(sessions=3, disliked=1)
    assert judge([vote(i, False, session="ada") for i in range(400)], votes(100, 0, 1), SPEC) is None


def test_the_last_word_on_a_picture_counts() -> None:
    changed: Sequence[Vote] = [vote(0, False, "ada", "p"), vote(1, True, "ada", "p")]
    assert tally(changed) == Tally(sessions=1, disliked=0)
    assert tally(changed[:1]) == Tally(sessions=1, disliked=1)


@pytest.mark.parametrize(
    ("a", "n", "b", "m"), [(0, 5, 0, 7), (3, 8, 1, 10), (8, 8, 10, 10), (9, 20, 4, 30), (5, 5, 0, 9)]
)
def test_the_exact_tails_are_those_of_the_definition(a: int, n: int, b: int, m: int) -> None:
    dislikes = a + b
    counted = sum(comb(n, i) * comb(m, dislikes - i) for i in range(a, min(n, dislikes) + 1)) / comb(n + m, dislikes)
    assert fisher_tail(Tally(sessions=n, disliked=a), Tally(sessions=m, disliked=b)) == pytest.approx(counted)
    plain = sum(comb(n, i) * 0.3**i * 0.7 ** (n - i) for i in range(a, n + 1))
    assert binomial_tail(Tally(sessions=n, disliked=a), 0.3) == pytest.approx(plain)


def test_the_tea_of_fishers_lady() -> None:
    assert fisher_tail(Tally(sessions=4, disliked=3), Tally(sessions=4, disliked=1)) == pytest.approx(17 / 70)


def test_large_numbers_do_not_overflow() -> None:
    many, more = Tally(sessions=13_000, disliked=6000), Tally(sessions=13_000, disliked=6200)
    assert 0 < fisher_tail(more, many) < 0.01
    assert 0 < binomial_tail(more, 0.47) < 0.5
