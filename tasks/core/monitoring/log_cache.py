"""The prompt log by hours, with the caches of each: its lines as one object, and its window state."""

import gzip
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import takewhile

from tasks.core.drift import DriftProfile, WindowState
from tasks.core.drift.errors import StateUnusable
from tasks.core.drift.rows import Floats, Ints, fold_of
from tasks.core.drift.window_state import placed_state
from tasks.core.errors import DocumentInvalid, DocumentNewer, ObjectMissing
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, parse
from tasks.core.traffic.hourly import HOUR, newest_hours, read_hour
from tasks.core.traffic.prompt_log import PromptLine, demand, log_hours, log_prefix, once, read_objects

SUFFIX = ".json.gz"
FORM = digest(str(PromptLine.current_version()), *PromptLine.model_fields)  # what this version reads of a line


class HourFile(Document):
    """The demand of an hour, from its objects (their names are `sources`); damaged objects are skipped."""

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
    _drop_unlogged(store, model, set(map(hour_name, logged)), hour_name(start + HOUR), hour_name(end))
    for begin, keys in logged.items():
        held = _hour_file(store, model, begin, keys)
        lines = [line for line in held.lines if start <= line.time < end]
        hours.append(Hour(begin, lines, start <= begin and begin + HOUR <= end, held.unreadable))
    return hours


def newest_lines(store: Store, model: str, start: datetime, end: datetime, most: int) -> list[PromptLine]:
    """The last `most` lines from start to end; no hour before them is read, and no month listed."""
    found: list[PromptLine] = []
    for begin, keys in newest_hours(store, log_prefix(model), start, end):
        if len(found) >= most:
            break
        found = [line for line in _hour_file(store, model, begin, keys).lines if start <= line.time < end] + found
    return once(found)[-most:]


def hour_name(hour: datetime) -> str:
    """The name of an hour in keys, which sort by time."""
    return f"{hour.astimezone(UTC):%Y-%m-%dT%H}"


def hour_files(model: str) -> str:
    """The place of the hours' files."""
    return f"models/{model}/drift/hours/"


def state_folder(model: str) -> str:
    """The place of the hours' states, by profile."""
    return f"models/{model}/drift/states/"


def _hour_file(store: Store, model: str, hour: datetime, keys: list[str]) -> HourFile:
    """The hour's lines; those missing from the hour's file are read from the log."""
    place = f"{hour_files(model)}{hour_name(hour)}{SUFFIX}"
    held = _cached_hour(store, place)
    found = read_hour(store, log_prefix(model), hour, keys, lambda there: _updated(store, held, there))
    if found is not held:
        store.write(place, gzip.compress(found.model_dump_json().encode()))
    return found


def _updated(store: Store, held: HourFile, keys: list[str]) -> HourFile:
    """The hour's file with the lines of these objects; raises ObjectMissing."""
    names = tuple(key.rpartition("/")[2] for key in keys)
    if not set(held.sources) <= set(names):  # one was deleted from the log, so its lines must go here too, or replaced
        held = HourFile()
    known = set(held.sources)
    fresh = [key for key, name in zip(keys, names, strict=True) if name not in known]
    return _extended(store, held, fresh, names) if fresh else held


def _cached_hour(store: Store, place: str) -> HourFile:
    """The hour's file; empty if it is missing, unreadable or of another form: the log has all of it."""
    try:
        held = parse(HourFile, gzip.decompress(store.read(place)), place)
    except (ObjectMissing, DocumentInvalid, gzip.BadGzipFile, zlib.error, EOFError):
        return HourFile()
    return held if held.form == FORM else HourFile()


def _extended(store: Store, held: HourFile, fresh: list[str], names: tuple[str, ...]) -> HourFile:
    lines, unreadable = list(held.lines), list(held.unreadable)
    for key in fresh:
        try:
            lines += read_objects(store, [key])
        except DocumentNewer:  # it is not damaged: to leave it out would be to judge less traffic than there was
            raise
        except DocumentInvalid:
            unreadable.append(key)
    return HourFile(sources=names, lines=tuple(demand(once(lines))), unreadable=tuple(unreadable), form=FORM)


def forget_hours(store: Store, model: str, before: datetime) -> None:
    """Delete the files of hours before this one: they can be rebuilt from the log and must not outlive it long."""
    store.delete_many(keys_before(store, hour_files(model), hour_name(before)))


def keys_before(store: Store, prefix: str, limit: str) -> list[str]:
    """The keys under a prefix whose names sort before the limit."""
    return list(takewhile(lambda key: key < prefix + limit, store.list(prefix)))


def _drop_unlogged(store: Store, model: str, logged: set[str], first: str, last: str) -> None:
    """Delete the files of hours from the first on, before the last, that were deleted from the log."""
    prefix = hour_files(model)
    names = (key.removeprefix(prefix).removesuffix(SUFFIX) for key in store.list(prefix, prefix + first))
    there = takewhile(lambda name: name < last, names)
    store.delete_many([f"{prefix}{name}{SUFFIX}" for name in there if name not in logged])


def window_state(
    store: Store, model: str, profile: DriftProfile, hours: list[Hour], rows: Floats, groups: Ints
) -> WindowState:
    """The state of all rows, float32 [n, d] in the order of the hours, with their groups int64 [n].

    States of whole hours are stored; those outside the window or of another profile are deleted.
    """
    prefix = state_folder(model)
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
    store.delete_many(sorted(set(store.list(prefix)) - used))
    return total


def _cached_state(store: Store, key: str, like: WindowState) -> WindowState | None:
    try:
        return WindowState.from_bytes(store.read(key), like)
    except (ObjectMissing, StateUnusable):
        return None
