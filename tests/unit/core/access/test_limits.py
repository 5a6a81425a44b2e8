"""Rates of pictures: what is above one waits as long as it must, and memory has a bound."""

import threading
from random import Random

import pytest

from tasks.core.access import limits
from tasks.core.access.errors import LimitExceeded
from tasks.core.access.limits import Kind, RateLimits
from tasks.core.errors import SettingError


class Clock:
    """The time that the library reads."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    return clock


def fits(rates: RateLimits, identity: str, cost: int = 1, kind: Kind = "key") -> bool:
    try:
        rates.spend(kind, identity, cost)
    except LimitExceeded:
        return False
    return True


def test_so_many_pictures_fit_and_no_more(clock: Clock) -> None:
    rates = RateLimits(key="10/minute")
    assert [fits(rates, "a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert fits(rates, "b", 10)
    assert not fits(rates, "b")
    clock.time += 120
    assert fits(rates, "a", 10)


def test_no_burst_at_the_turn_of_a_window(clock: Clock) -> None:
    rates = RateLimits(key="10/minute")
    clock.time += 59
    assert fits(rates, "a", 10)
    clock.time += 2
    assert not fits(rates, "a", 2)


def test_kinds_are_counted_apart(clock: Clock) -> None:
    rates = RateLimits(key="1/minute", address="2/minute")
    expected: dict[Kind, int] = {"key": 1, "address": 2, "session": 5}
    for kind, fitting in expected.items():
        assert sum(fits(rates, "same", kind=kind) for _ in range(5)) == fitting


def test_a_refused_request_counts_nowhere(clock: Clock) -> None:
    rates = RateLimits(address="10/minute", session="2/minute")
    both: list[tuple[Kind, str]] = [("address", "here"), ("session", "ada")]
    rates.spend_all(both, 2)
    for _ in range(5):
        with pytest.raises(LimitExceeded, match="this session may have 2 pictures in minute"):
            rates.spend_all(both, 1)
    assert fits(rates, "here", 8, "address")


def test_the_wait_is_exact(clock: Clock) -> None:
    """After `retry_after` the same request fits; a second earlier, or for 1 s at least, it does not."""
    chance = Random(1)
    waits = []
    for number in range(300):
        amount, span = chance.choice([(1, 60), (7, 60), (30, 60), (600, 60), (5, 10)])
        rates = RateLimits(key=f"{amount}/{span} seconds")
        clock.time += chance.uniform(0, 200)
        for _ in range(chance.randrange(40)):
            fits(rates, "a", chance.randint(1, max(1, amount // 3)))
            clock.time += chance.uniform(0, span / 10)
        cost = chance.randint(1, amount)
        try:
            rates.spend("key", "a", cost)
        except LimitExceeded as error:
            waits.append(error.retry_after)
        else:
            continue
        clock.time += waits[-1] - 1
        early = waits[-1] > 1 and fits(rates, "a", cost)
        clock.time += 1
        assert (early, fits(rates, "a", cost)) == (False, True), number
    assert len(waits) > 50
    assert len(set(waits)) > 10
    assert min(waits) >= 1
    assert max(waits) <= 2 * 60 + 1


def test_more_than_ever_fit_says_so(clock: Clock) -> None:
    with pytest.raises(LimitExceeded, match="for fewer at once") as caught:
        RateLimits(session="3/minute").spend("session", "a", 4)
    assert (caught.value.retry_after, caught.value.kind, caught.value.asked) == (60, "session", 4)


def test_several_rates_hold_together(clock: Clock) -> None:
    rates = RateLimits(key="5/second; 8/minute")
    assert sum(fits(rates, "a") for _ in range(10)) == 5
    clock.time += 2
    assert sum(fits(rates, "a") for _ in range(10)) == 3
    with pytest.raises(LimitExceeded, match="8 pictures in minute"):
        rates.spend("key", "a")


def test_without_a_rate_there_is_no_limit_and_no_memory(clock: Clock) -> None:
    rates = RateLimits()
    assert all(fits(rates, "a", 1000) for _ in range(1000))
    assert [storage.expirations for storage in rates.storages.values()] == [{}, {}, {}]


def test_no_pictures_always_fit(clock: Clock) -> None:
    rates = RateLimits(key="1/minute")
    assert fits(rates, "a")
    assert fits(rates, "a", 0)


@pytest.mark.parametrize("kind", ["key", "address", "session"])
@pytest.mark.parametrize("rate", ["60", "lots", "60/fortnight", "-1/minute", "1.5/minute", "0/minute", "60/minute;x"])
def test_bad_rate_is_refused_with_its_setting(kind: str, rate: str) -> None:
    with pytest.raises(SettingError, match=f"DYEWORKS_LIMIT_{kind.upper()}: '{rate}'"):
        RateLimits(**{kind: rate})


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COUNTERS", 100)
    rates = RateLimits(key="2/minute", address="2/minute")
    assert fits(rates, "own", 2)
    for number in range(1000):
        assert fits(rates, f"10.0.{number // 256}.{number % 256}", kind="address")
    storage = rates.storages["address"]
    assert [len(found) for found in (storage.storage, storage.expirations, storage.locks, storage.events)] == [
        *(100, 100, 0, 0),
    ]
    assert not fits(rates, "own"), "a flood of addresses evicts no key"


def test_concurrent_requests_never_get_more_than_the_rate() -> None:
    rates, passed = RateLimits(key="500/day"), list[bool]()
    threads = [
        threading.Thread(target=lambda: passed.extend([fits(rates, "a") for _ in range(100)])) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(passed), sum(passed)) == (1600, 500)


def test_no_thread_runs_for_each_hit(clock: Clock) -> None:
    rates, before = RateLimits(key="1000/minute"), threading.active_count()
    for _ in range(200):
        rates.spend("key", "a")
    assert threading.active_count() <= before
