"""A visitor cannot make a roll-back at home: 1,000 invented sessions from 5 addresses, all of which vote no (D11)."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from deployments.storefront.door import COOKIE, Door
from deployments.storefront.feedback import Feedback, ServedPicture
from deployments.storefront.sessions import SESSIONS
from tasks.core.access.keys import create_key
from tasks.core.config.installation import Settings
from tasks.core.config.presets import RollbackSpec
from tasks.core.serving.rollback_votes import judge, tally
from tasks.core.store import FolderStore
from tasks.core.traffic.feedback import Vote
from tasks.core.traffic.prompt_log import hash_session
from tests.adire import adire
from tests.unit.deployments.storefront.doors import LIMITLESS, ask, shop, visitor_at

ADDRESSES = [f"192.0.2.{number}" for number in range(1, 6)]
INVENTED = 1000
SPEC = RollbackSpec()


@pytest.fixture
def door(folder: FolderStore) -> Door:
    """Without limits, which would stop most of it: what is left to do is done by sessions and addresses."""
    door = Door(Settings.model_validate(LIMITLESS))
    door.keys.refresh(folder)
    return door


def signed(client: TestClient, _: int) -> str:
    """A new cookie from the page; it is good, and there are as many as one asks for."""
    client.cookies.clear()
    assert COOKIE in client.get("/shop/").headers["set-cookie"]
    return ""


def forged(client: TestClient, number: int) -> str:
    client.cookies.clear()
    client.cookies.set(COOKIE, f"visitor-{number}.abcdef.0123456789")
    return ""


def named(client: TestClient, number: int) -> str:
    client.cookies.clear()
    return f"visitor {number}"


def mixed(client: TestClient, number: int) -> str:
    return (signed, forged, named)[number % 3](client, number)


Invent = Callable[[TestClient, int], str]


def voted(found: Iterator[dict[str, object]], generation: int, liked: bool) -> list[Vote]:
    """A picture and a vote of each, recorded as the storefront does."""
    votes: list[Vote] = []
    feedback = Feedback("adire", INVENTED, votes.append)
    for number, visitor in enumerate(found):
        session, voter = (hash_session(str(visitor[name]), "a key of hashes") for name in ("session", "voter"))
        feedback.remember(f"{generation}-{number}", ServedPicture(f"r{generation}", generation, session, voter))
        feedback.vote(f"{generation}-{number}", liked)
    return votes


def visits(app: FastAPI, addresses: list[str], invent: Invent, count: int) -> Iterator[dict[str, object]]:
    """What the door sees of so many invented sessions."""
    clients = [visitor_at(app, address) for address in addresses]
    for number in range(count):
        client = clients[number % len(clients)]
        yield ask(client, user=invent(client, number))


@pytest.mark.parametrize("invent", [signed, mixed])
def test_a_thousand_invented_sessions_take_nothing_back(invent: Invent, door: Door) -> None:
    app = shop(door, {"adire": adire()})
    usual = [f"198.51.100.{number}" for number in range(60)]
    before = voted(visits(app, usual, signed, len(usual)), 1, liked=True)
    served = voted(visits(app, ADDRESSES, invent, INVENTED), 2, liked=False)
    assert (tally(before).sessions, tally(served).sessions) == (len(usual), len(ADDRESSES))
    assert judge(served, before, SPEC) is None, "they are too few to be looked at"
    few = judge(served, before, SPEC.model_copy(update={"min_sessions": len(ADDRESSES)}))
    assert few is not None
    assert few.served.disliked == len(ADDRESSES)
    sessions = {vote.session for vote in served}
    assert len(sessions) <= len(ADDRESSES) * (SESSIONS + 1), "nor do they make a drift"


def test_as_many_visitors_of_their_own_addresses_do(door: Door) -> None:
    app = shop(door, {"adire": adire()})
    usual = [f"198.51.100.{number}" for number in range(60)]
    before = voted(visits(app, usual, signed, len(usual)), 1, liked=True)
    served = voted(visits(app, [f"203.0.113.{n}" for n in range(60)], signed, 60), 2, liked=False)
    found = judge(served, before, SPEC)
    assert found is not None
    assert found.worse


def test_the_users_of_a_key_do(door: Door, folder: FolderStore) -> None:
    """Its owner answers for them."""
    text, _ = create_key(folder, "visitor", "shop")
    door.keys.refresh(folder)
    app = shop(door, {"adire": adire()})
    backend = visitor_at(app, ADDRESSES[0], text)
    served = voted((ask(backend, user=f"visitor {number}") for number in range(60)), 2, liked=False)
    assert tally(served).sessions == 60
    alone = voted((ask(backend) for _ in range(60)), 2, liked=False)
    assert tally(alone).sessions == 1


def test_by_default_an_address_gets_few_of_these_pictures(folder: FolderStore) -> None:
    door = Door(Settings())
    client = visitor_at(shop(door, {"adire": adire()}), ADDRESSES[0])
    passed = 0
    for number in range(200):
        mixed(client, number)
        answer = client.get("/ask", params={"model": "adire", "scope": "render", "pictures": 1})
        passed += answer.status_code == 200
    assert passed <= 2 * 60, "of the minute in which the test begins, and of that in which it ends"
