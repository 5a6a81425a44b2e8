"""The prompt log by hours, with the caches of each: its lines as one object, and its window state."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from tasks.core.drift import DriftProfile, WindowState
from tasks.core.drift.errors import StateUnusable
from tasks.core.drift.rows import Floats, Ints, fold_of
from tasks.core.drift.window_state import placed_state
from tasks.core.errors import DocumentInvalid, DocumentNewer, ObjectMissing
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, parse
from tasks.core.traffic.hourly import HOUR
from tasks.core.traffic.prompt_log import PromptLine, log_hours, once, read_objects

FORM = digest(str(PromptLine.current_version()), *PromptLine.model_fields)  # what this version reads of a line


class HourFile(Document):
    """All lines of an hour's objects (their names are `sources`), each request once; damaged objects are skipped."""

    sources: tuple[str, ...] = ()
    lines: tuple[PromptLine, ...] = ()
    unreadable: tuple[str, ...] = ()
    form: str = ""  # of the lines: another version of the software may have read less of them


@dataclass(frozen=True)
class Hour:
    """The lines of an hour that lie in a window; `whole` when the window holds all of the hour."""

    start: datetime
    lines: list[PromptLine]
    whole: bool
    unreadable: tuple[str, ...] = ()

    @cached_property
    def identity(self) -> str:
        """Hash of the lines: a late line changes it."""
        return digest(*(line.request_id for line in self.lines))


def read_hours(store: Store, model: str, start: datetime, end: datetime) -> list[Hour]:
    """The log from start to end by the hour, in order; reads one object per hour and the new ones."""
    hours, logged = [], log_hours(store, model, start, end)
    present = {f"{begin:%Y-%m-%dT%H}.json.gz" for begin in logged}
    first, last = f"{start + HOUR:%Y-%m-%dT%H}", f"{end:%Y-%m-%dT%H}"
    _drop(store, model, lambda name: first <= name < last and name not in present)  # deleted from the log
    for begin, keys in logged.items():
        held = _hour_file(store, model, begin, keys)
        lines = [line for line in held.lines if start <= line.time < end]
        hours.append(Hour(begin, lines, start <= begin and begin + HOUR <= end, held.unreadable))
    return hours


def newest_lines(store: Store, model: str, start: datetime, end: datetime, most: int) -> list[PromptLine]:
    """The last `most` lines from start to end."""
    found: list[PromptLine] = []
    for begin, keys in reversed(log_hours(store, model, start, end).items()):
        if len(found) >= most:
            break
        found = [line for line in _hour_file(store, model, begin, keys).lines if start <= line.time < end] + found
    return once(found)[-most:]


def _hour_file(store: Store, model: str, hour: datetime, keys: list[str]) -> HourFile:
    """The hour's lines; those missing from the hour's file are read from the log."""
    place = f"models/{model}/drift/hours/{hour:%Y-%m-%dT%H}.json.gz"
    held = _cached_hour(store, place)
    names = {key.rpartition("/")[2]: key for key in keys}
    if not set(held.sources) <= set(names):  # something was deleted from the log: it must be deleted here too
        held = HourFile()
    if fresh := [key for name, key in names.items() if name not in set(held.sources)]:
        held = _extended(store, held, fresh, tuple(names))
        store.write(place, gzip.compress(held.model_dump_json().encode()))
    return held


def _cached_hour(store: Store, place: str) -> HourFile:
    """The hour's file; empty if it is missing, unreadable or of another form: the log has all of it."""
    try:
        held = parse(HourFile, gzip.decompress(store.read(place)), place)
    except (ObjectMissing, DocumentInvalid, gzip.BadGzipFile, zlib.error, EOFError):
        return HourFile()
    return held if held.form == FORM else HourFile()


def _extended(store: Store, held: HourFile, fresh: list[str], names: tuple[str, ...]) -> HourFile:
    lines, unreadable, gone = list(held.lines), list(held.unreadable), set()
    for key in fresh:
        try:
            lines += read_objects(store, [key])
        except DocumentNewer:  # it is not damaged: to leave it out would be to judge less traffic than there was
            raise
        except DocumentInvalid:
            unreadable.append(key)
        except ObjectMissing:  # deleted meanwhile
            gone.add(key.rpartition("/")[2])
    sources = tuple(name for name in names if name not in gone)
    return HourFile(sources=sources, lines=tuple(once(lines)), unreadable=tuple(unreadable), form=FORM)


def forget_hours(store: Store, model: str, before: datetime) -> None:
    """Delete the files of hours before this one: they can be rebuilt from the log and must not outlive it long."""
    _drop(store, model, lambda name: name < f"{before:%Y-%m-%dT%H}")


def _drop(store: Store, model: str, unwanted: Callable[[str], bool]) -> None:
    prefix = f"models/{model}/drift/hours/"
    for key in list(store.list(prefix)):
        if unwanted(key.removeprefix(prefix)):
            store.delete(key)


def window_state(
    store: Store, model: str, profile: DriftProfile, hours: list[Hour], rows: Floats, groups: Ints
) -> WindowState:
    """The state of all rows, float32 [n, d] in the order of the hours, with their groups int64 [n].

    States of whole hours are stored; those outside the window or of another profile are deleted.
    """
    prefix = f"models/{model}/drift/states/"
    empty = WindowState.empty(profile.features, profile.card.spec.folds)
    total, place, used = empty, 0, set()
    for hour in hours:
        mine = slice(place, place + len(hour.lines))
        place = mine.stop
        key = f"{prefix}{profile.digest}/{hour.start:%Y-%m-%dT%H}-{hour.identity}.safetensors"
        if hour.whole and (cached := _cached_state(store, key, empty)):
            state = cached
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


def _cached_state(store: Store, key: str, like: WindowState) -> WindowState | None:
    try:
        return WindowState.from_bytes(store.read(key), like)
    except (ObjectMissing, StateUnusable):
        return None
