"""Sessions and votes by address: no address counts as many visitors, and unnamed sessions expire."""

from datetime import UTC, datetime, timedelta

import pytest

from deployments.addresses import client_key
from deployments.storefront.errors import VotesExhausted
from deployments.storefront.feedback import MAX_VOTES, Feedback, ServedPicture
from deployments.storefront.sessions import REMEMBERED, SESSIONS, Sessions
from tasks.core.config.presets import RollbackSpec
from tasks.core.errors import SettingError
from tasks.core.serving.rollback_votes import judge, tally
from tasks.core.traffic.feedback import Vote

HERE = "192.0.2.7"


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def wait(self, minutes: float) -> None:
        self.time += timedelta(minutes=minutes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_sessions_of_an_address_are_limited_per_day(clock: Clock) -> None:
    sessions = Sessions(now=clock)
    found = [sessions.session_of(HERE, f"invented {i}") for i in range(1000)]
    assert found[:SESSIONS] == [f"invented {i}" for i in range(SESSIONS)]
    assert set(found[SESSIONS:]) == {f"address {HERE}"}
    assert sessions.session_of(HERE, "invented 0") == "invented 0", "the first ones still count"
    assert sessions.session_of("192.0.2.8", "ada") == "ada"
    clock.wait(24 * 60)
    assert sessions.session_of(HERE, "invented 999") == "invented 999"


def test_unnamed_session_expires_after_half_an_hour(clock: Clock) -> None:
    sessions = Sessions(now=clock)
    found = []
    for minutes in (0, 29, 29, 31, 1):
        clock.wait(minutes)
        found.append(sessions.session_of(HERE, ""))
    assert [found.index(one) for one in found] == [0, 0, 0, 3, 3]
    assert sessions.session_of("192.0.2.8", "") not in found


def test_expired_unnamed_sessions_count_towards_the_limit(clock: Clock) -> None:
    sessions, found = Sessions(now=clock), set()
    for _ in range(40):
        clock.wait(31)
        found.add(sessions.session_of(HERE, ""))
    assert len(found) == SESSIONS + 1


def test_an_ipv6_network_is_one_client(clock: Clock) -> None:
    sessions = Sessions(now=clock)
    found = {sessions.session_of(f"2001:db8:1:2::{i:x}", f"invented {i}") for i in range(100)}
    assert len(found) == SESSIONS + 1
    assert client_key("::ffff:192.0.2.7") == client_key(HERE) == HERE
    assert client_key("2001:db8::1") != client_key("2001:db8:0:1::1")


def test_trusted_address_may_name_any_number_of_sessions(clock: Clock) -> None:
    sessions = Sessions("192.0.2.0/24, 2001:db8::1", clock)
    assert [sessions.session_of(HERE, f"user {i}") for i in range(100)] == [f"user {i}" for i in range(100)]
    assert (sessions.trusts("2001:db8::1"), sessions.trusts("198.51.100.1"), sessions.trusts("")) == (
        True,
        False,
        False,
    )
    with pytest.raises(SettingError, match="DYEWORKS_TRUSTED_ADDRESSES"):
        Sessions("my backend")


def test_number_of_remembered_addresses_is_limited(clock: Clock) -> None:
    sessions = Sessions(now=clock)
    for i in range(REMEMBERED + 10):
        sessions.session_of(f"10.{i // 65536}.{i // 256 % 256}.{i % 256}", "s")
    assert len(sessions.clients) == REMEMBERED


def voted(count: int, voter: str, liked: bool = False, generation: int = 2) -> list[Vote]:
    """A number of sessions vote, all from one address, or each from its own."""
    taken: list[Vote] = []
    feedback = Feedback("adire", 1000, taken.append)
    for i in range(count):
        drawn = ServedPicture(f"release-{generation}", generation, f"{generation}-{i}", voter or f"address {i}")
        feedback.remember(f"{generation}-{i}", drawn)
        feedback.vote(f"{generation}-{i}", liked)
    return taken


def test_votes_of_one_address_count_as_one_voter() -> None:
    before = voted(50, "", liked=True, generation=1)
    assert judge(voted(200, "one address"), before, RollbackSpec()) is None
    many = judge(voted(200, ""), before, RollbackSpec())
    assert many is not None
    assert many.worse
    assert (tally(voted(200, "one address")).sessions, tally(voted(200, "")).sessions) == (1, 200)


def test_changes_of_a_vote_are_limited() -> None:
    taken: list[Vote] = []
    feedback = Feedback("adire", 10, taken.append)
    feedback.remember("a", ServedPicture("release-1", 1, "s"))
    for i in range(MAX_VOTES):
        feedback.vote("a", bool(i % 2))
    with pytest.raises(VotesExhausted, match="picture 'a'"):
        feedback.vote("a", False)
    assert len(taken) == MAX_VOTES
