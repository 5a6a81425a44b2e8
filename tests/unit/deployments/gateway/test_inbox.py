"""The notifications in a store, on a folder and on a real S3 server."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.gateway.app import Webhook
from deployments.gateway.inbox import PENDING, SEEN, Inbox
from deployments.gateway.notifications import Reading, read_notification
from tasks.core.config.installation import Settings
from tasks.core.installation import Installation
from tasks.core.store import FolderStore, Store, open_store
from tests.counting_store import CountingStore
from tests.unit.deployments.gateway.senders import notification


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return open_store(f"s3://{request.getfixturevalue('bucket')}/{uuid4().hex}")


def test_a_notification_is_new_once(store: Store) -> None:
    inbox = Inbox(store)
    assert [inbox.add("cloth", "a", ready=False) for _ in range(2)] == ["a", ""]
    assert inbox.add("cloth", "b", ready=True) == "ready-b"
    assert dict(inbox.pending("cloth")) == dict(inbox.pending()) == {"cloth": {"a", "ready-b"}}
    inbox.settle("cloth", {"a", "ready-b"})
    assert dict(inbox.pending()) == {}
    assert list(store.list(SEEN)) == [f"{SEEN}a", f"{SEEN}b"]
    assert [inbox.add("cloth", name, ready=False) for name in "ab"] == ["", ""]


def test_the_same_notifications_are_the_same_event(store: Store) -> None:
    inbox = Inbox(store)
    inbox.add("cloth", "a", ready=False)
    inbox.settle("cloth", {"a"})
    store.write(f"{PENDING}cloth/a", b"")  # the process was killed before it was removed
    inbox.settle("cloth", inbox.pending()["cloth"])
    assert len(list(store.list("outbox/"))) == 1


def requests(folder: FolderStore, reading: Reading) -> int:
    """The requests that the store takes of a notification."""
    store, webhook = CountingStore(folder), Webhook(Settings())
    webhook.installation = Installation(Settings(), store)
    webhook._take(reading)
    return store.requests.total()


def test_a_notification_costs_the_same_few_requests_whatever_was_there_before(
    folder: FolderStore, tmp_path: Path
) -> None:
    fresh, earlier = (read_notification_of(name) for name in ("fresh.png", "earlier.png"))
    assert requests(folder, earlier) == 3
    Inbox(folder).settle("cloth", Inbox(folder).pending()["cloth"])
    for number in range(1000):
        (tmp_path / f"store/{SEEN}{number:016x}").touch()
        (tmp_path / f"store/{PENDING}cloth/{number:016x}").touch()
    assert requests(folder, fresh) == 3, "what is new"
    assert requests(folder, fresh) == 3, "what is pending"
    assert requests(folder, earlier) == 1, "what was seen"


def read_notification_of(name: str) -> Reading:
    return read_notification(json.dumps(notification(f"uploads/cloth/{name}")).encode())
