"""The versions of a dataset in their order, by their names, and compared."""

from datetime import timedelta

import pytest

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import PromoteRequest, RollBackRequest
from tasks.core.data.dataset import Manifest, manifest_key
from tasks.core.data.ingest import ingest
from tasks.core.data.pins import pin_dataset
from tasks.core.data.versions import (
    NothingPinned,
    VersionUnknown,
    champion_version,
    compare_versions,
    find_version,
    version_lines,
)
from tasks.core.errors import DatasetUnusable
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.registry.ledger import history
from tasks.core.store import FolderStore
from tasks.core.store.documents import read_document
from tests.adire import adire, installed
from tests.candidates import measured, trained
from tests.odd_pictures import encoded, noise
from tests.unit.core.store.test_fixtures import STORES, VERSIONS


def version(store: FolderStore, *numbers: int, **captions: str) -> Manifest:
    """The version of these pictures alone."""
    for key in list(store.list("uploads/adire/")):
        store.delete(key)
    for number in numbers:
        store.write(f"uploads/adire/{number}.png", encoded(noise(number)))
    for name, caption in captions.items():
        store.write(f"uploads/adire/{name.removeprefix('p')}.txt", caption.encode())
    return ingest(store, "adire", IngestSpec())[0]


def test_versions_are_listed_oldest_first_with_what_they_are_to_whom(folder: FolderStore, model: ModelConfig) -> None:
    made = [version(folder, *range(count)) for count in (1, 2, 3)]
    assert version(folder, 0, 1) == made[1], "the same uploads are the same version, which is the newest again"
    pin_dataset(folder, model, "adire", made[0].version, "ada", "the autumn show")
    lines = version_lines(folder, "adire", [model, adire(name="batik", datasets=["adire"])])
    assert [line.manifest for line in lines] == made
    assert [line.newest for line in lines] == [False, True, False]
    assert [line.pinned for line in lines] == [("adire",), (), ()]
    assert [line.champions for line in lines] == [(), (), ()]
    assert [line.manifest.parent for line in lines] == ["", made[0].version, made[1].version]
    assert [line.manifest.new for line in lines] == [1, 1, 1]


def test_the_order_is_that_in_which_they_were_made(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    start, made = clock.now(), []
    for day in range(8):
        monkeypatch.setattr(clock, "now", lambda day=day: start + timedelta(days=day))
        made.append(version(folder, day).version)
    assert [line.manifest.version for line in version_lines(folder, "adire", [])] == made != sorted(made)


def test_the_champion_is_known_after_a_roll_back(folder: FolderStore, model: ModelConfig) -> None:
    assert champion_version(folder, model.name, "adire") == ""
    for training in "ab":
        trained(folder, training, version=f"of {training}", dataset="adire")
        found = measured(folder, training, len(history(folder, model.name)))
        promote(installed(folder), model, PromoteRequest(evaluation=found))
    assert champion_version(folder, model.name, "adire") == "of b"
    newest = version(folder, 1).version
    roll_back(installed(folder), model, RollBackRequest())
    assert history(folder, model.name)[-1].dataset_version == newest
    assert champion_version(folder, model.name, "adire") == "of a"
    assert champion_version(folder, model.name, "cloth") == ""


def test_a_version_is_found_by_its_name_its_beginning_or_what_it_is(folder: FolderStore, model: ModelConfig) -> None:
    made = [version(folder, number) for number in range(20)]
    first, last = made[0], made[-1]
    assert find_version(folder, "adire", first.version, "") == first
    assert find_version(folder, "adire", first.version[:12], "") == first
    assert find_version(folder, "adire", "newest", "") == last
    with pytest.raises(NothingPinned, match="model 'adire' has no version of it pinned"):
        find_version(folder, "adire", "pinned", model.name)
    pin_dataset(folder, model, "adire", first.version, "ada", "the autumn show")
    assert find_version(folder, "adire", "pinned", model.name) == first
    for name in ("x", "", first.version + "0", "../adire"):
        with pytest.raises(VersionUnknown, match="has no version"):
            find_version(folder, "adire", name, "")
    many = {one.version[0] for one in made if sum(other.version[0] == one.version[0] for other in made) > 1}
    with pytest.raises(VersionUnknown, match="name one of them") as caught:
        find_version(folder, "adire", min(many), "")
    assert len(caught.value.found) > 1
    with pytest.raises(DatasetUnusable, match="has no version yet"):
        find_version(folder, "cloth", "newest", "")


def test_two_versions_are_compared(folder: FolderStore) -> None:
    old = version(folder, 1, 2, 3, p1="rings", p2="dots")
    new = version(folder, 2, 3, 4, p2="small dots")
    change = compare_versions(old, new)
    assert [item.name for item in change.added] == ["4.png"]
    assert [item.name for item in change.removed] == ["1.png"]
    assert [(a.caption, b.caption) for a, b in change.recaptioned] == [("dots", "small dots")]
    back = compare_versions(new, old)
    assert (back.added, back.removed) == (change.removed, change.added)
    assert compare_versions(new, new) == compare_versions(old, old)


@pytest.mark.parametrize("earlier", VERSIONS)
def test_versions_of_earlier_stores_are_listed(earlier: str, model: ModelConfig) -> None:
    store = FolderStore(STORES / earlier, create=False)
    (line,) = version_lines(store, "adire", [model])
    assert line.newest
    key = manifest_key("adire", line.manifest.version)
    assert read_document(store, Manifest, key) == line.manifest
