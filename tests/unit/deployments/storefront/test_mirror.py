"""Copies of releases on this machine: a slow one delays no other, and the least recently used ones go."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from deployments.storefront.mirror import Mirror
from tasks.core.store import FolderStore
from tests.unit.deployments.storefront.releases import MODEL, home, released


class SlowStore(FolderStore):
    """Reads of one release wait."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.slow, self.asked, self.go = "", Event(), Event()

    def read(self, key: str) -> bytes:
        if self.slow and self.slow in key:
            self.asked.set()
            assert self.go.wait(60)
        return super().read(key)


@pytest.fixture
def store(tmp_path: Path) -> SlowStore:
    return SlowStore(tmp_path / "slow")


def test_a_release_that_is_fetched_slowly_delays_no_other(store: SlowStore, adapter: Path, tmp_path: Path) -> None:
    slow, fast = (released(store, adapter, tmp_path / name, scale) for name, scale in (("a", 1.0), ("b", 0.5)))
    store.slow, mirror = slow, Mirror(home(store, cache=tmp_path / "cache"))
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(mirror.release, MODEL, slow)
        assert store.asked.wait(60)
        assert mirror.release(MODEL, fast).exists()
        assert (mirror.holds(MODEL, fast), mirror.holds(MODEL, slow)) == (True, False)
        store.go.set()
        assert fetching.result(60).exists()


def test_one_release_is_fetched_once_for_all_who_ask(store: SlowStore, adapter: Path, tmp_path: Path) -> None:
    release = released(store, adapter, tmp_path / "a")
    store.slow, mirror = release, Mirror(home(store, cache=tmp_path / "cache"))
    with ThreadPoolExecutor(4) as pool:
        fetching = [pool.submit(mirror.release, MODEL, release) for _ in range(4)]
        assert store.asked.wait(60)
        store.go.set()
        assert len({each.result(60) for each in fetching}) == 1


def test_the_least_recently_used_copies_are_deleted(store: SlowStore, adapter: Path, tmp_path: Path) -> None:
    names = [released(store, adapter, tmp_path / str(scale), scale) for scale in (1.0, 0.5, 0.25)]
    mirror = Mirror(home(store, cache=tmp_path / "cache"), most=2)
    for name in names:
        mirror.release(MODEL, name)
    assert [mirror.holds(MODEL, name) for name in names] == [False, True, True]
