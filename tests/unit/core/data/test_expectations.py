"""What a dataset declares of its versions: uploads that do not meet it make none, and say why."""

import pytest

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import load_manifest, newest_version
from tasks.core.data.expectations import ExpectationsUnmet, unmet
from tasks.core.data.failures import MOST_FAULTS, WIDTH, last_failure
from tasks.core.data.index import reading_digest
from tasks.core.data.ingest import ingest
from tasks.core.errors import CaptionsUnusable, DatasetUnusable
from tasks.core.store import FolderStore
from tests.counting_store import CountingStore
from tests.odd_pictures import encoded, noise

NAME, TRIGGER = "cloth", "adire_style"
STRICT = IngestSpec(min_pictures=3, max_refused=0.25, require_trigger=True)


def put(store: FolderStore, **files: bytes) -> None:
    for name, data in files.items():
        store.write(f"uploads/{NAME}/{name.replace('_', '.')}", data)


def good(store: FolderStore, *names: str) -> None:
    for number, name in enumerate(names):
        put(store, **{f"{name}_png": encoded(noise(number)), f"{name}_txt": f"rings in {TRIGGER}".encode()})


def test_all_that_is_not_met_is_said_at_once_and_nothing_becomes_a_version(folder: FolderStore) -> None:
    good(folder, "a", "b")
    put(folder, b_txt=b"rings", torn_png=b"no picture")
    with pytest.raises(ExpectationsUnmet) as caught:
        ingest(folder, NAME, STRICT, TRIGGER)
    assert caught.value.faults[:3] == [
        "2 usable pictures, ingest.min_pictures expects 3",
        "1 of 3 pictures refused (33.3%), ingest.max_refused allows 25.0%",
        "1 caption without the trigger 'adire_style', which ingest.require_trigger expects: b.png",
    ]
    assert "torn.png" in caught.value.faults[3], "and which pictures were refused"
    assert newest_version(folder, NAME) == ""
    assert list(folder.folders(f"datasets/{NAME}/")) == []


def test_the_newest_version_stays_and_a_mended_upload_makes_the_next(folder: FolderStore) -> None:
    good(folder, "a", "b", "c")
    first, _ = ingest(folder, NAME, STRICT, TRIGGER)
    put(folder, torn_png=b"no picture", bad_png=b"none either")
    with pytest.raises(ExpectationsUnmet):
        ingest(folder, NAME, STRICT, TRIGGER)
    assert load_manifest(folder, NAME) == first
    failed = last_failure(folder, NAME)
    assert failed
    assert failed.problem.startswith("2 of 5 pictures refused (40.0%), ingest.max_refused allows 25.0%; 2 pictures re")
    folder.delete(f"uploads/{NAME}/torn.png")
    put(folder, bad_png=encoded(noise(9)), bad_txt=f"dots in {TRIGGER}".encode())
    second, _ = ingest(folder, NAME, STRICT, TRIGGER)
    assert {item.name for item in second.items} == {"a.png", "b.png", "c.png", "bad.png"}
    assert second.parent == first.version
    assert last_failure(folder, NAME) is None


def test_limits_are_inclusive(folder: FolderStore) -> None:
    good(folder, "a", "b", "c")
    put(folder, torn_png=b"no picture")
    assert len(ingest(folder, NAME, STRICT, TRIGGER)[0].items) == 3


def test_a_dataset_that_declares_nothing_takes_what_it_took_before(folder: FolderStore) -> None:
    put(folder, a_png=encoded(noise(1)), torn_png=b"no picture", bad_png=b"none either")
    assert len(ingest(folder, NAME, IngestSpec(), TRIGGER)[0].items) == 1
    assert unmet(IngestSpec(), [], 1, 1, TRIGGER) == ["0 usable pictures, ingest.min_pictures expects 1"]


def test_an_instance_prompt_with_the_trigger_is_a_caption_with_it(folder: FolderStore) -> None:
    put(folder, a_png=encoded(noise(1)), b_png=encoded(noise(2)), c_png=encoded(noise(3)))
    assert len(ingest(folder, NAME, STRICT.filled(TRIGGER), TRIGGER)[0].items) == 3


def test_expectations_make_no_upload_be_read_again(folder: FolderStore) -> None:
    assert reading_digest(STRICT) == reading_digest(IngestSpec())
    assert reading_digest(IngestSpec(min_side=33)) != reading_digest(IngestSpec())


def test_what_was_refused_is_not_read_by_the_next_ingest(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    good(folder, "a", "b", "c")
    ingest(folder, NAME, STRICT, TRIGGER)
    put(folder, torn_png=b"no picture", bad_png=b"none either")
    monkeypatch.setattr("tasks.core.data.uploads.UploadReader._is_settled", lambda *_: True)
    with pytest.raises(ExpectationsUnmet):
        ingest(folder, NAME, STRICT, TRIGGER)
    counting = CountingStore(folder)
    with pytest.raises(ExpectationsUnmet):
        ingest(counting, NAME, STRICT, TRIGGER)
    assert not [key for key in counting.requests if "read uploads/" in key]


@pytest.mark.parametrize("kind", ["none", "damaged", "table"])
def test_every_failure_is_recorded_with_its_reasons(folder: FolderStore, kind: str) -> None:
    lines = b"".join(b'{"file_name": "x%d.png"}\n' % number for number in range(200))
    files = {"none": {}, "damaged": {"a_png": b"no picture"}, "table": {"a_png": encoded(noise(1))}}[kind]
    put(folder, **files)
    if kind == "table":
        folder.write(f"uploads/{NAME}/metadata.jsonl", lines)
    with pytest.raises(DatasetUnusable) as caught:
        ingest(folder, NAME, IngestSpec(), TRIGGER)
    failed = last_failure(folder, NAME)
    assert failed
    assert list(failed.faults) == [fault[:WIDTH] for fault in caught.value.faults[:MOST_FAULTS]]
    assert failed.more == max(0, len(caught.value.faults) - MOST_FAULTS)
    assert (kind == "table") == isinstance(caught.value, CaptionsUnusable) == bool(failed.more)
