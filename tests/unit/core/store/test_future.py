"""Today's software reads what a later version has written, and a later one what today's has: each class of core.

The later version of each class has a field more, of each specification an option less, and more choices.
"""

import json
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.core.config.base import Spec
from tasks.core.config.stored import Stored, read_stored
from tasks.core.errors import DocumentNewer
from tasks.core.store.documents import Document, parse, render
from tests.futures import ADDED, NEW, Kind, Later, chosen, documents_in, instances, kinds

EVERY = kinds()
DOCUMENTS = kinds(Document)
SEEDS = range(2)
LATER = [Later(seed) for seed in SEEDS]
FEW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def plain_of(document: Stored) -> dict[str, Any]:
    """Its JSON; nothing may warn about a value that is written again."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = document.model_dump(mode="json")
        assert json.loads(document.model_dump_json()) == found
    return found


def test_every_class_is_found() -> None:
    names = {kind.__name__ for kind in EVERY}
    assert {"Entry", "ReleaseManifest", "TrainSpec", "DriftSpec", "PromptLine", "Vote", "DriftReport"} <= names
    assert len(EVERY) > 80
    assert {kind for kind in EVERY if issubclass(kind, Document)} == set(DOCUMENTS)


@pytest.mark.parametrize("later", LATER, ids=SEEDS)
@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
@FEW
@given(data=st.data())
def test_a_later_version_reads_what_this_one_has_written(kind: Kind, later: Later, data: st.DataObject) -> None:
    today = plain_of(data.draw(instances(kind)))
    there = plain_of(read_stored(later.kind(kind), json.dumps(today)))
    assert there.pop(ADDED) == ""
    assert later.removed.get(kind) not in there
    assert set(there) <= set(today)
    values = {name: value for name, value in there.items() if not isinstance(value, dict | list)}
    assert values.items() <= {name: today[name] for name in there}.items()


@pytest.mark.parametrize("later", LATER, ids=SEEDS)
@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
@FEW
@given(data=st.data())
def test_this_version_reads_what_a_later_one_has_written(kind: Kind, later: Later, data: st.DataObject) -> None:
    today = plain_of(data.draw(instances(kind)))
    written = later.write(kind, today)
    assert json.loads(written)[ADDED] == "new"
    read = read_stored(kind, written)
    assert plain_of(read) == later.read_today(kind, today)
    assert read_stored(kind, read.model_dump_json()) == read


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
@FEW
@given(data=st.data())
def test_what_a_person_writes_and_what_code_makes_stays_strict(kind: Kind, data: st.DataObject) -> None:
    today = plain_of(data.draw(instances(kind)))
    with pytest.raises(ValidationError, match=ADDED):
        kind.model_validate(today | {ADDED: "new"})
    with pytest.raises(ValidationError, match=ADDED):
        kind(**today | {ADDED: "new"})
    if (other := chosen(kind, today)) != today:
        with pytest.raises(ValidationError, match="Input should be '"):
            kind.model_validate(other)
        with pytest.raises(ValidationError, match=f"input_value='{NEW}'"):
            kind(**other)


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
@FEW
@given(data=st.data())
def test_a_newer_major_version_is_refused_wherever_it_is(kind: type[Document], data: st.DataObject) -> None:
    whole, parts = documents_in(kind, plain_of(data.draw(instances(kind))))
    part = data.draw(st.sampled_from(parts))
    part["schema_version"] += 1
    with pytest.raises(DocumentNewer) as caught:
        parse(kind, json.dumps(whole).encode(), "some/key.json")
    error = caught.value
    assert (error.key, error.version, error.known, error.place == "") == ("some/key.json", 2, 1, part is whole)
    whose = f"its {error.place} has" if error.place else "it has"
    sentence = f"{whose} schema version 2, and this dyeworks knows 1; update dyeworks"
    assert str(error) == f"document 'some/key.json' is not valid: {sentence}"


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
@FEW
@given(data=st.data())
def test_the_version_is_missing_in_the_oldest_documents(kind: type[Document], data: st.DataObject) -> None:
    document = data.draw(instances(kind))
    whole, parts = documents_in(kind, json.loads(render(document)))
    for part in parts:
        del part["schema_version"]
    assert parse(kind, json.dumps(whole).encode(), "key") == document


@pytest.mark.parametrize("kind", kinds(Spec), ids=lambda kind: kind.__name__)
@FEW
@given(data=st.data())
def test_a_form_shows_the_choices(kind: type[Spec], data: st.DataObject) -> None:
    """Each choice of a specification is in the JSON schema, as the form of the server draws it."""
    shown = kind.model_json_schema()["properties"]
    today = plain_of(data.draw(instances(kind)))
    for name, value in chosen(kind, today).items():
        if value == NEW:
            assert today[name] in shown[name]["enum"]
