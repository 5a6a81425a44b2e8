"""A future: a version of the software that adds fields and choices and removes options, made of today's classes."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from random import Random
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeGuard, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import AwareDatetime, Field, create_model

import tasks.core
from tasks.core.config.base import Spec
from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.drift import DriftSpec
from tasks.core.config.model import ModelConfig, ServingSpec
from tasks.core.config.presets import PolicySpec
from tasks.core.config.prompts import PromptSet, load_prompts
from tasks.core.config.stored import Stored, read_stored
from tasks.core.store.documents import Document
from tests.adire import adire

ADDED, NEW = "added_later", "known later"  # a field, and a choice, that today's software does not know
DEFAULT = "default of what is gone"
Kind: TypeAlias = type[Stored]
WORDS = ("adire", "b-2", "c.3")  # for every text, whatever pattern it has to follow
VALIDATED: dict[Kind, Callable[[], Stored]] = {  # whose fields depend on each other, or are checked
    CaptioningSpec: lambda: CaptioningSpec(url="http://127.0.0.1:8000/v1", model="llava"),
    DriftSpec: DriftSpec,
    ModelConfig: adire,
    PolicySpec: PolicySpec,
    PromptSet: lambda: load_prompts("embedded-1"),
    ServingSpec: lambda: ServingSpec(sizes=("96x64",), safety=True),  # sizes have a form
}


def kinds(base: Kind = Stored) -> list[Kind]:
    """All classes of core that are stored, or part of what is stored, by name."""
    for module in pkgutil.walk_packages(tasks.core.__path__, "tasks.core."):
        importlib.import_module(module.name)
    found = {kind for kind in _below(base) if kind.__module__.startswith("tasks.core.")}
    return sorted(found - {Document, Spec}, key=lambda kind: kind.__name__)


def _below(kind: Kind) -> Iterator[Kind]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


@cache
def instances(kind: Kind) -> st.SearchStrategy[Any]:
    """Instances of a class, by its fields."""
    if kind in VALIDATED:
        return st.just(VALIDATED[kind]())
    fields = {name: _values(f.annotation, f.metadata) for name, f in kind.model_fields.items() if name != "layout"}
    return st.builds(kind, **fields | ({"schema_version": st.just(1)} if issubclass(kind, Document) else {}))


def _values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Values of a type within the limits of a field."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(parts[0], [*metadata, *parts[1:]])
    if origin in (Union, UnionType):
        return st.one_of([_values(part, metadata) for part in parts])
    limits = {name: getattr(m, name) for m in metadata for name in LIMITS if getattr(m, name, None) is not None}
    if origin is not None:
        return _several(origin, parts, limits)
    return instances(annotation) if is_stored(annotation) else PLAIN[annotation](limits)


def _several(origin: Any, parts: tuple[Any, ...], limits: dict[str, Any]) -> st.SearchStrategy[Any]:
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is dict:
        return st.dictionaries(_values(parts[0], []), _values(parts[1], []), max_size=2)
    if origin is tuple and parts[-1] is not Ellipsis:
        return st.tuples(*(_values(part, []) for part in parts))
    unique = get_origin(parts[0]) is None and not is_stored(parts[0])
    return st.lists(_values(parts[0], []), min_size=limits.get("min_length", 0), max_size=2, unique=unique).map(origin)


def is_stored(annotation: Any) -> TypeGuard[Kind]:
    """Whether it is a class of something that is stored."""
    return inspect.isclass(annotation) and issubclass(annotation, Stored)


LIMITS = ("ge", "gt", "le", "lt", "multiple_of", "min_length")


def _integers(limits: dict[str, Any]) -> st.SearchStrategy[int]:
    step = limits.get("multiple_of", 1)
    low, high = -(-limits.get("ge", 0) // step), limits.get("le", 10**6) // step
    return st.integers(low, high).map(lambda n: n * step)


def _floats(limits: dict[str, Any]) -> st.SearchStrategy[float]:
    low, high = (
        next((limits[name] for name in names if name in limits), None) for names in (("ge", "gt"), ("le", "lt"))
    )
    return st.floats(
        -1e6 if low is None else low,
        1e6 if high is None else high,
        exclude_min="gt" in limits,
        exclude_max="lt" in limits,
    )


Make: TypeAlias = Callable[[dict[str, Any]], st.SearchStrategy[Any]]
PLAIN: dict[Any, Make] = {
    str: lambda _: st.sampled_from(WORDS),
    int: _integers,
    float: _floats,
    bool: lambda _: st.booleans(),
    object: lambda _: st.sampled_from([1, "two", None, ["three"]]),
    datetime: lambda _: st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    NoneType: lambda _: st.none(),
}
PLAIN[AwareDatetime] = PLAIN[datetime]


class Later:
    """A later version: of each class it knows a field more, of each specification an option less, and more choices."""

    def __init__(self, seed: int = 0) -> None:
        self.chance, self.classes, self.removed = Random(seed), dict[Kind, Kind](), dict[Kind, str]()

    def kind(self, today: Kind) -> Kind:
        """The class of that version."""
        if today not in self.classes:
            if issubclass(today, Spec):
                self.removed[today] = self.chance.choice(
                    [n for n, f in today.model_fields.items() if not f.is_required()]
                )
            base = next(base for base in (Document, Spec, Stored) if issubclass(today, base))
            fields: dict[str, Any] = {ADDED: (str, "")} | self._fields(today)
            self.classes[today] = create_model(f"Later{today.__name__}", __base__=base, **fields)
        return self.classes[today]

    def _fields(self, today: Kind) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in today.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            if isinstance(default, Stored):
                default = read_stored(self.kind(type(default)), default.model_dump_json())
            if name != self.removed.get(today):
                found[name] = (self._type(field.annotation), ... if field.is_required() else Field(default))
        return found

    def _type(self, annotation: Any) -> Any:
        """A type with later classes for today's, and a choice more."""
        origin, parts = get_origin(annotation), get_args(annotation)
        if origin is Literal and len(parts) > 1:
            return Literal[(*parts, NEW)]
        if is_stored(annotation):
            return self.kind(annotation)
        if origin in (Union, UnionType):
            return Union[tuple(map(self._type, parts))]  # noqa: UP007
        return origin[tuple(map(self._type, parts))] if origin in (dict, tuple, list) else annotation

    def write(self, today: Kind, plain: dict[str, Any]) -> bytes:
        """What that version writes where today's writes `plain`: with its field and its choice at every depth."""
        there = self.kind(today).model_validate_json(json.dumps(self._rewritten(today, plain)))
        return there.model_dump_json().encode()

    def _rewritten(self, annotation: Any, value: Any) -> Any:
        def change(kind: Kind, fields: dict[str, Any]) -> dict[str, Any]:
            return without(self.removed.get(kind), fields) | {ADDED: "new"}

        return walk(annotation, chosen(annotation, value), change)

    def read_today(self, today: Kind, plain: dict[str, Any]) -> dict[str, Any]:
        """What today's version should find in it, as it writes it: options that are gone have their defaults."""

        def mark(kind: Kind, fields: dict[str, Any]) -> dict[str, Any]:
            if gone := self.removed.get(kind):
                plain = walk(kind.model_fields[gone].annotation, fields[gone], lambda _, inner: without(DEFAULT, inner))
                return fields | {DEFAULT: plain}
            return fields

        def restore(kind: Kind, fields: dict[str, Any]) -> dict[str, Any]:
            return fields | ({self.removed[kind]: fields.pop(DEFAULT)} if DEFAULT in fields else {})

        less = walk(today, plain, lambda kind, fields: without(self.removed.get(kind), fields))
        whole = today.model_validate_json(json.dumps(less)).model_dump(mode="json")
        marked = walk(today, whole, mark)
        found: dict[str, Any] = walk(today, marked, restore, choose=True)
        return found


def without(name: str | None, fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


Change = Callable[[Kind, dict[str, Any]], dict[str, Any]]


def walk(annotation: Any, value: Any, change: Change, choose: bool = False) -> Any:
    """The JSON of a type with each object of a class changed, the innermost first; `choose`: and each choice."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return walk(parts[0], value, change, choose)
    if is_stored(annotation):
        types = {name: field.annotation for name, field in annotation.model_fields.items()}
        fields = {
            name: walk(types[name], part, change, choose) if name in types else part for name, part in value.items()
        }
        return change(annotation, fields)
    if origin in (Union, UnionType):
        return value if value is None else walk(next(p for p in parts if p is not NoneType), value, change, choose)
    if origin in (tuple, list):
        of = parts if parts[-1] is not Ellipsis and origin is tuple else [parts[0]] * len(value)
        return [walk(one, part, change, choose) for one, part in zip(of, value, strict=True)]
    if origin is dict:
        names = [NEW] if choose and value and get_origin(parts[0]) is Literal else []
        more = dict.fromkeys(names, next(iter(value.values()), None))
        return {key: walk(parts[1], part, change, choose) for key, part in (value | more).items()}
    return NEW if choose and origin is Literal and len(parts) > 1 else value


def chosen(annotation: Any, value: Any) -> Any:
    """The JSON of a type with the new choice for each choice, and beside those that are names."""
    return walk(annotation, value, lambda _, fields: fields, choose=True)


def documents_in(kind: Kind, plain: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A copy of the JSON, and of each document in it the part of the copy."""
    found: list[dict[str, Any]] = []

    def note(one: Kind, fields: dict[str, Any]) -> dict[str, Any]:
        if issubclass(one, Document):
            found.append(fields)
        return fields

    return walk(kind, plain, note), found
