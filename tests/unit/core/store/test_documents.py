"""Documents: versions and migrations, also of documents in others; unknown fields that are kept."""

import json
from typing import ClassVar, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from tasks.core.errors import DocumentInvalid, DocumentNewer
from tasks.core.store import FolderStore
from tasks.core.store.documents import (
    Document,
    Migration,
    Plain,
    parse,
    read_document,
    read_documents,
    render,
    revised,
)

pytestmark = pytest.mark.any_key


def renamed(plain: Plain) -> Plain:
    return {("minutes" if name == "length" else name): value for name, value in plain.items()}


def in_seconds(plain: Plain) -> Plain:
    minutes = plain.pop("minutes")
    return plain | {"seconds": 60 * minutes}


class Span(Document):
    """In its third version: the first had `length`, the second `minutes`."""

    migrations: ClassVar[dict[int, Migration]] = {1: renamed, 2: in_seconds}
    schema_version: int = 3
    seconds: int
    kind: Literal["long", "short"] = "short"


class Diary(Document):
    """A document with others in it."""

    day: str
    first: Span | None = None
    spans: tuple[Span, ...] = ()
    named: dict[str, Span] = Field(default_factory=dict)


class LongSpan(Span):
    """What inherits the migrations of another, with a validator of its own."""

    @model_validator(mode="after")
    def _long(self) -> "LongSpan":
        if self.seconds < 60:
            raise ValueError("it is short")
        return self


def read(kind: type[Document], plain: object) -> Document:
    return parse(kind, json.dumps(plain).encode(), "a/b.json")


@pytest.mark.parametrize(
    "plain",
    [
        {"schema_version": 3, "seconds": 120},
        {"schema_version": 2, "minutes": 2},
        {"schema_version": 1, "length": 2},
        {"length": 2},
        {"length": 2, "unknown": {"seconds": 7}},
    ],
)
def test_a_document_is_brought_to_the_current_version(plain: Plain) -> None:
    span = Span(seconds=120)
    assert read(Span, plain) == span
    assert read(LongSpan, plain) == LongSpan(seconds=120)
    diary = {"day": "monday", "first": plain, "spans": [plain, plain], "named": {"a": plain}}
    assert read(Diary, diary) == Diary(day="monday", first=span, spans=(span, span), named={"a": span})
    assert json.loads(render(read(Span, plain))) == {"schema_version": 3, "seconds": 120, "kind": "short"}


def test_a_migrated_document_is_read_as_tolerantly_as_others() -> None:
    found = read(Diary, {"day": "monday", "spans": [{"length": 1, "kind": "endless", "new": 1}]})
    assert [span.kind for span in Diary.model_validate(found).spans] == ["endless"]
    assert json.loads(render(found))["spans"] == [{"schema_version": 3, "seconds": 60, "kind": "endless"}]


@pytest.mark.parametrize(
    ("plain", "place", "version", "known"),
    [
        ({"schema_version": 2, "day": "monday"}, "", 2, 1),
        ({"schema_version": 2}, "", 2, 1),
        ({"day": "monday", "first": {"schema_version": 4, "hours": 1}}, "first", 4, 3),
        ({"day": "monday", "spans": [{"length": 1}, {"schema_version": 12}]}, "spans.1", 12, 3),
        ({"day": "monday", "named": {"a": {"schema_version": 4}}}, "named.a", 4, 3),
    ],
)
def test_a_later_version_is_refused_with_what_to_do(plain: Plain, place: str, version: int, known: int) -> None:
    with pytest.raises(DocumentNewer) as caught:
        read(Diary, plain)
    assert (caught.value.key, caught.value.place) == ("a/b.json", place)
    whose = f"its {place} has" if place else "it has"
    sentence = f"{whose} schema version {version}, and this dyeworks knows {known}; update dyeworks"
    assert str(caught.value) == f"document 'a/b.json' is not valid: {sentence}"


@pytest.mark.parametrize(
    ("plain", "problem"),
    [
        ({}, "it cannot be brought from version 2 to 3: KeyError('minutes')"),
        ({"length": []}, "seconds"),
        ({"schema_version": 0, "seconds": 1}, "greater than or equal to 1"),
        ({"schema_version": "new", "seconds": 1}, "schema_version"),
        ({"schema_version": None, "seconds": 1}, "schema_version"),
        ([], "Input should be an object"),
        (None, "Input should be an object"),
        ({"schema_version": 3, "seconds": 1, "kind": 7}, "Input should be 'long' or 'short'"),
    ],
)
def test_what_is_no_document_is_refused(plain: object, problem: str) -> None:
    with pytest.raises(DocumentInvalid) as caught:
        read(Span, plain)
    assert type(caught.value) is DocumentInvalid
    assert problem in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"seconds": 1', b"[1]"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    for kind in (Span, Diary):
        with pytest.raises(DocumentInvalid, match=r"a/b\.json"):
            parse(kind, data, "a/b.json")


def test_code_makes_documents_of_the_current_version_alone() -> None:
    for other in (1, 4):
        with pytest.raises(ValidationError, match="schema_version" if other > 3 else "seconds"):
            Span.model_validate({"schema_version": other, "length": 2} | ({"seconds": 1} if other > 3 else {}))
    with pytest.raises(ValidationError, match="Extra inputs"):
        Span.model_validate({"length": 2, "seconds": 120})


@pytest.mark.parametrize("steps", [{}, {1: renamed}, {1: renamed, 2: in_seconds, 3: renamed}])
def test_a_class_without_all_migrations_cannot_be_made(steps: dict[int, Migration]) -> None:
    with pytest.raises(TypeError, match="Torn has version 3; migrations begin with each earlier one"):

        class Torn(Document):
            migrations: ClassVar[dict[int, Migration]] = steps
            schema_version: int = 3


def test_documents_of_all_versions_are_read_from_a_store(folder: FolderStore) -> None:
    for name, plain in (("1", {"length": 1}), ("2", {"schema_version": 2, "minutes": 1}), ("3", {"seconds": 60})):
        version = {"schema_version": 3} if name == "3" else {}
        folder.write(f"spans/{name}.json", json.dumps(plain | version).encode())
    assert set(read_documents(folder, Span, "spans/")) == {Span(seconds=60)}
    folder.write("spans/4.json", b'{"schema_version": 4}')
    with pytest.raises(DocumentNewer, match=r"spans/4\.json.*update dyeworks"):
        list(read_documents(folder, Span, "spans/"))
    assert read_document(folder, Span, "spans/1.json") == Span(seconds=60)


def test_what_replaces_a_document_keeps_the_fields_of_later_versions() -> None:
    written = b'{"schema_version": 1, "day": "monday", "mood": {"deep": [1]}, "spans": []}'
    replaced = revised(written, Diary(day="tuesday"))
    assert json.loads(replaced) == json.loads(render(Diary(day="tuesday"))) | {"mood": {"deep": [1]}}
    assert parse(Diary, replaced, "key") == Diary(day="tuesday")
    assert revised(b"{}", Diary(day="monday")) == render(Diary(day="monday"))
