"""Prompts that stored documents quote: taken out of drift reports, references and evaluations.

A document is written again last, after the pages and pictures that show its quotes are deleted, so that an interrupted
call finds it again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import uuid4

from tasks.core.drift import DriftProfile
from tasks.core.drift.errors import ProfileUnusable
from tasks.core.errors import ObjectMissing, StoreConflict
from tasks.core.monitoring.records import recent_key, report_folder
from tasks.core.monitoring.reference import (
    ReferenceRecord,
    array_folder,
    array_key,
    read_profile,
    record_folder,
    write_profile,
)
from tasks.core.registry.results import EvaluationResult, PromotionResult, result_folder
from tasks.core.store import Store
from tasks.core.store.documents import digest, parse, revised

LONG = 8  # characters from which a prompt is also looked for inside other texts
PAGES = ("report.html", "evidently.html")


@dataclass(frozen=True)
class Quotes:
    """Prompts, each with what stands in its place, and words that only they hold."""

    texts: Mapping[str, str]
    words: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.texts or self.words)

    @classmethod
    def of(cls, texts: Iterable[str], words: Iterable[str]) -> Self:
        """Quotes of these prompts."""
        return cls({text: f"[forgotten {uuid4().hex[:8]}]" for text in texts}, frozenset(words))

    def without(self, own: Iterable[str]) -> "Quotes":
        """The quotes that are none of the model's own prompts."""
        known = set(own)
        return Quotes({text: stand for text, stand in self.texts.items() if text not in known}, self.words)

    def redacted(self, value: Any) -> Any:
        """A JSON value without the prompts, in keys as well."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.redacted(part) for part in value]
        if isinstance(value, dict):
            return {self._text(name): self.redacted(part) for name, part in value.items()}
        return value

    def _text(self, text: str) -> str:
        if text in self.texts:
            return self.texts[text]
        for prompt, stand in self.texts.items():
            if len(prompt) >= LONG and prompt in text:
                text = text.replace(prompt, stand)
        return text


def redact_reports(store: Store, model: str, quotes: Quotes) -> tuple[str, ...]:
    """Take the quotes out of the drift records and delete the pages of those that had some; returns their keys."""
    if not quotes:
        return ()
    _redact_recent(store, model, quotes)
    changed = []
    for key in _documents(store, report_folder(model)):
        with suppress(ObjectMissing):  # deleted meanwhile
            record = json.loads(store.read(key))
            if (plain := _without_quotes(record, quotes)) != record:
                store.purge([f"{key.rpartition('/')[0]}/{page}" for page in PAGES])
                _rewrite(store, key, plain)
                changed.append(key)
    return tuple(changed)


def _redact_recent(store: Store, model: str, quotes: Quotes) -> None:
    """The newest checks: only earlier versions have put prompts there."""
    key = recent_key(model)
    while True:
        with suppress(StoreConflict):
            try:
                data, version = store.read_versioned(key)
            except ObjectMissing:
                return
            recent = json.loads(data)
            plain = recent | {"checks": [_without_quotes(check, quotes) for check in recent["checks"]]}
            if plain != recent:
                store.swap(key, _rendered(plain), version)
            return


def _without_quotes(record: dict[str, Any], quotes: Quotes) -> dict[str, Any]:
    """A drift record without the prompts and words."""
    plain = dict(record)
    if record.get("fresh"):
        plain["fresh"] = [text for text in record["fresh"] if text not in quotes.texts]
    if record.get("topics"):
        plain["topics"] = [
            topic
            | {
                "medoids": [text for text in topic["medoids"] if text not in quotes.texts],
                "terms": [word for word in topic["terms"] if word not in quotes.words],
            }
            for topic in record["topics"]
        ]
    return plain


def redact_references(store: Store, model: str, quotes: Quotes) -> tuple[str, ...]:
    """Take the texts out of the frozen profiles, whose numbers stay; returns the keys of the new arrays."""
    changed = []
    for key in list(store.list(array_folder(model))) if quotes else ():
        with suppress(ProfileUnusable, ObjectMissing):
            profile = read_profile(store, key)
            if not quotes.texts.keys().isdisjoint(profile.texts):
                changed.append(_without_texts(store, model, key, profile, quotes))
    return tuple(changed)


def _without_texts(store: Store, model: str, key: str, profile: DriftProfile, quotes: Quotes) -> str:
    """Replace the arrays of a profile; returns the new key."""
    plain = replace(profile, texts=tuple("" if text in quotes.texts else text for text in profile.texts))
    place = array_key(model, int(key.rpartition("/")[2].partition("-")[0]), plain)
    write_profile(store, place, plain)
    _point(store, model, key, place)
    store.purge([key])
    return place


def _point(store: Store, model: str, old: str, new: str) -> None:
    """Let the records of some arrays name others."""
    for key in _documents(store, record_folder(model)):
        while True:
            data, version = store.read_versioned(key)
            record = parse(ReferenceRecord, data, key)
            if record.arrays != old:
                break
            with suppress(StoreConflict):
                store.swap(key, revised(data, record.model_copy(update={"arrays": new})), version)


def redact_evaluations(store: Store, model: str, quotes: Quotes) -> tuple[str, ...]:
    """Take the quotes out of evaluations and decisions, and delete the pictures and pages that show them."""
    if not quotes:
        return ()
    _delete_renders(store, model, quotes)
    changed = dict(_quoting(store, model, quotes))
    names = {plain["key"] for plain in changed.values()}
    for key in _documents(store, result_folder(model, PromotionResult)):
        result = json.loads(store.read(key))
        if result["evaluation"] in names:
            store.purge([key.removesuffix(".json") + ".html"])
        if (plain := quotes.redacted(result)) != result:
            _rewrite(store, key, plain)
    for key, plain in changed.items():
        if grid := plain.get("grids", {}).pop("drifted", ""):
            store.purge([grid])
        _rewrite(store, key, plain)
    return tuple(sorted(names))


def _quoting(store: Store, model: str, quotes: Quotes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The evaluations that quote the prompts as visitors', without them."""
    for key in _documents(store, result_folder(model, EvaluationResult)):
        result = json.loads(store.read(key))
        own = (prompt for kind in ("fixed", "class_prompts", "general") for prompt in result.get(kind, ()))
        if (plain := quotes.without(own).redacted(result)) != result:
            yield key, plain


def _delete_renders(store: Store, model: str, quotes: Quotes) -> None:
    """Delete the pictures that were rendered of these prompts."""
    names = {f"{digest(text)}.png" for text in quotes.texts}
    store.purge([key for key in store.list(f"models/{model}/renders/") if key.rpartition("/")[2] in names])


def _documents(store: Store, prefix: str) -> Iterator[str]:
    return (key for key in list(store.list(prefix)) if key.endswith(".json"))


def _rewrite(store: Store, key: str, plain: dict[str, Any]) -> None:
    """Write a document again, and leave no earlier version of it."""
    store.write(key, _rendered(plain))
    store.purge([key], earlier=True)


def _rendered(plain: dict[str, Any]) -> bytes:
    return (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode()
