"""Check for conditional writes: a store that ignores the conditions would let two promotions win."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

from tasks.core.errors import DyeworksError, ObjectExists, StoreConflict, StoreUnusable
from tasks.core.store.base import Store

WRITERS = 16  # at once
START_SECONDS = 60.0  # until all of them are there
ADVICE = "take a store that keeps them, such as AWS, Ceph, SeaweedFS or a folder, or two promotions could both win"

_tried: set[str] = set()  # stores that passed in this process


def require_conditions(store: Store) -> None:
    """Try the conditions on objects of its own, once a process and store: one write after another, then many at once.

    Raises:
        StoreUnusable: the store ignores a condition, or lets several writers win that came at the same time.
    """
    if store.url in _tried:
        return
    key = f"probes/{uuid4().hex}"
    raced = f"{key}-raced"
    store.create(key, b"first")
    try:
        faults = list(_faults(store, key)) or list(_faults_of_many(store, key, raced))
    finally:
        store.delete(key)
        store.delete(raced)
    if faults:
        raise StoreUnusable(store.url, f"its conditional writes cannot be relied on ({', '.join(faults)}): {ADVICE}")
    _tried.add(store.url)


def _faults(store: Store, key: str) -> Iterator[str]:
    """What is wrong when one writes after another."""
    _, version = store.read_versioned(key)
    if not _raises(ObjectExists, lambda: store.create(key, b"second")):
        yield "it ignores If-None-Match"
    elif _raises(StoreConflict, lambda: store.swap(key, b"third", version)):
        yield "it refuses If-Match with the right ETag"
    elif not _raises(StoreConflict, lambda: store.swap(key, b"fourth", version)):
        yield "it ignores If-Match"


def _faults_of_many(store: Store, key: str, new: str) -> Iterator[str]:
    """What is wrong when many write at once, though one after another they are served well."""
    _, version = store.read_versioned(key)
    created = _winners(ObjectExists, lambda data: store.create(new, data))
    swapped = _winners(StoreConflict, lambda data: store.swap(key, data, version))
    for done, winners in (("created one object with If-None-Match", created), ("swapped one with If-Match", swapped)):
        if winners != 1:
            yield f"it keeps them for one writer after another, but when {WRITERS} at once {done}, {winners} succeeded"


def _winners(refusal: type[DyeworksError], write: Callable[[bytes], None]) -> int:
    """How many of the writers succeed, each with other bytes: the same bytes would be taken for one's own write."""
    start = Barrier(WRITERS)

    def wins(number: int) -> bool:
        start.wait(START_SECONDS)
        return not _raises(refusal, lambda: write(b"writer %d" % number))

    with ThreadPoolExecutor(WRITERS, "probe") as pool:
        return sum(pool.map(wins, range(WRITERS)))


def _raises(kind: type[DyeworksError], act: Callable[[], object]) -> bool:
    try:
        act()
    except kind:
        return True
    return False
