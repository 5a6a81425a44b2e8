"""Check for conditional writes: a store that ignores the conditions would let two promotions win."""

from collections.abc import Callable, Iterator
from uuid import uuid4

from tasks.core.errors import DyeworksError, ObjectExists, StoreConflict, StoreUnusable
from tasks.core.store.base import Store

_tried: set[str] = set()  # stores that passed in this process


def require_conditions(store: Store) -> None:
    """Try the conditions on an object of its own, once a process and store.

    Raises:
        StoreUnusable: the store ignores a condition.
    """
    if store.url in _tried:
        return
    key = f"probes/{uuid4().hex}"
    try:
        faults = list(_faults(store, key))
    finally:
        store.delete(key)
    if faults:
        advice = "take a store that keeps them, such as Ceph, AWS or a folder, or two promotions could both win"
        raise StoreUnusable(store.url, f"its conditional writes cannot be relied on ({', '.join(faults)}): {advice}")
    _tried.add(store.url)


def _faults(store: Store, key: str) -> Iterator[str]:
    store.create(key, b"first")
    _, version = store.read_versioned(key)
    if not _raises(ObjectExists, lambda: store.create(key, b"second")):
        yield "it ignores If-None-Match"
    elif _raises(StoreConflict, lambda: store.swap(key, b"third", version)):
        yield "it refuses If-Match with the right ETag"
    elif not _raises(StoreConflict, lambda: store.swap(key, b"fourth", version)):
        yield "it ignores If-Match"


def _raises(kind: type[DyeworksError], act: Callable[[], object]) -> bool:
    try:
        act()
    except kind:
        return True
    return False
