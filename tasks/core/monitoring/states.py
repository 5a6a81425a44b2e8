"""States of hours that were added up before: a check adds them, and counts only what is new."""

from tasks.core.drift import DriftProfile, WindowState
from tasks.core.drift.errors import StateUnusable
from tasks.core.drift.rows import Floats, Ints, fold_of
from tasks.core.drift.state import placed_state
from tasks.core.errors import ObjectMissing
from tasks.core.monitoring.log_cache import Hour
from tasks.core.store import Store


def window_state(
    store: Store, model: str, profile: DriftProfile, hours: list[Hour], rows: Floats, groups: Ints
) -> WindowState:
    """The state of all rows, float32 [n, d] in the order of the hours, with their groups int64 [n].

    States of whole hours are kept; those that no longer lie in the window, or belong to another profile, are dropped.
    """
    prefix = f"drift/{model}/states/"
    empty = WindowState.empty(profile.features, profile.card.spec.folds)
    total, place, used = empty, 0, set()
    for hour in hours:
        mine = slice(place, place + len(hour.lines))
        place = mine.stop
        key = f"{prefix}{profile.digest}/{hour.start:%Y-%m-%dT%H}-{hour.identity}.safetensors"
        if hour.whole and (kept := _kept(store, key, empty)):
            state = kept
        else:
            fold = fold_of(groups[mine], profile.card.spec.folds)
            state = placed_state(profile.features.place(rows[mine]), fold, empty)
            if hour.whole:
                store.write(key, state.to_bytes())
        used.add(key)
        total += state
    for key in set(store.list(prefix)) - used:
        store.delete(key)
    return total


def _kept(store: Store, key: str, like: WindowState) -> WindowState | None:
    try:
        return WindowState.from_bytes(store.read(key), like)
    except (ObjectMissing, StateUnusable):
        return None
