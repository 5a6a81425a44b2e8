"""Ledger, releases and channel: one winner, append-only history, no damaged release is served."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest

from tasks.core.errors import DocumentNewer, ObjectMissing, PromotionLost, ReleaseCorrupt, StoreConflict
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.targets import publish_to_store
from tasks.core.registry.channel import flip, read_channel
from tasks.core.registry.ledger import Entry, append, champion, history, profile_generation
from tasks.core.registry.releases import (
    ReleaseManifest,
    describe,
    fetch_release,
    name_of,
    prefix,
    put_release,
    read_manifest,
    verify_release,
    write_release,
)
from tasks.core.store import FolderStore
from tasks.core.store.documents import render

MODEL, THREADS = "adire", 8
ABOUT = ReleaseManifest(
    base_model="embedded-1", dataset="cloth", dataset_version="v1", training="t", trigger="adire_style", files={}
)


def entry(generation: int, release: str = "", restores: int = 0, actor: str = "gate") -> Entry:
    return Entry(
        generation=generation,
        action="roll_back" if restores else "promote",
        release=release or f"release-{generation}",
        dataset_version="v1",
        evaluation="e",
        restores=restores,
        actor=actor,
        reason="better",
        time=datetime(2026, 1, generation, tzinfo=UTC),
    )


def test_the_bare_base_is_no_generation(folder: FolderStore) -> None:
    assert history(folder, MODEL) == []
    assert champion(folder, MODEL) is None


def test_history_is_in_the_order_of_generations(folder: FolderStore) -> None:
    entries = [append(folder, MODEL, entry(g)) for g in range(1, 13)]
    append(folder, "adire-2", entry(1, "other"))
    assert history(folder, MODEL) == entries
    assert champion(folder, MODEL) == entries[-1]


def test_an_entry_is_never_replaced(folder: FolderStore) -> None:
    first = append(folder, MODEL, entry(1))
    with pytest.raises(PromotionLost, match="generation 1 was promoted by another run"):
        append(folder, MODEL, entry(1, "another"))
    assert history(folder, MODEL) == [first]


def test_one_of_many_concurrent_promotions_wins(folder: FolderStore) -> None:
    together = Barrier(THREADS)

    def promote(name: str) -> str:
        together.wait()
        try:
            append(folder, MODEL, entry(1, name))
        except PromotionLost:
            return ""
        return name

    with ThreadPoolExecutor(THREADS) as pool:
        winners = [name for name in pool.map(promote, [f"r{i}" for i in range(THREADS)]) if name]
    assert len(winners) == 1
    assert [e.release for e in history(folder, MODEL)] == winners


def test_a_roll_back_restores_the_profile_of_its_target() -> None:
    entries = [entry(1), entry(2), entry(3, "release-1", restores=1)]
    assert [profile_generation(entries[:n]) for n in (1, 2, 3)] == [1, 2, 1]
    assert profile_generation([*entries, entry(4)]) == 4


def adapter(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(weights)
    (folder / "card.md").write_text("# adire")
    return folder


def test_a_release_round_trips(folder: FolderStore, tmp_path: Path) -> None:
    release = write_release(folder, MODEL, adapter(tmp_path / "made"), ABOUT)
    manifest = fetch_release(folder, MODEL, release, tmp_path / "new" / "place")
    assert set(manifest.files) == {WEIGHTS, "card.md"}
    assert manifest.model_copy(update={"files": {}}) == ABOUT
    assert (tmp_path / "new/place" / WEIGHTS).read_bytes() == b"weights"
    assert (tmp_path / "new/place/card.md").read_text() == "# adire"


def test_a_releases_name_follows_from_its_content(folder: FolderStore, tmp_path: Path) -> None:
    first = write_release(folder, MODEL, adapter(tmp_path / "a"), ABOUT)
    before = list(folder.list(""))
    assert write_release(folder, MODEL, adapter(tmp_path / "b"), ABOUT) == first
    assert list(folder.list("")) == before
    assert write_release(folder, MODEL, adapter(tmp_path / "c", b"others"), ABOUT) != first
    about = ABOUT.model_copy(update={"dataset_version": "v2"})
    assert write_release(folder, MODEL, tmp_path / "a", about) != first


@pytest.mark.parametrize("name", [WEIGHTS, "card.md"])
def test_a_changed_file_is_detected(folder: FolderStore, tmp_path: Path, name: str) -> None:
    release = write_release(folder, MODEL, adapter(tmp_path / "made"), ABOUT)
    folder.write(prefix(MODEL, release) + name, b"tampered")
    with pytest.raises(ReleaseCorrupt, match=name) as caught:
        fetch_release(folder, MODEL, release, tmp_path / "fetched")
    assert caught.value.release == release


def test_a_changed_manifest_is_detected(folder: FolderStore, tmp_path: Path) -> None:
    release = write_release(folder, MODEL, adapter(tmp_path / "made"), ABOUT)
    key = prefix(MODEL, release) + "manifest.json"
    folder.write(key, folder.read(key).replace(b"adire_style", b"other_style"))
    with pytest.raises(ReleaseCorrupt, match=r"manifest\.json"):
        fetch_release(folder, MODEL, release, tmp_path / "fetched")


def test_a_release_without_its_manifest_is_missing(folder: FolderStore, tmp_path: Path) -> None:
    release = write_release(folder, MODEL, adapter(tmp_path / "made"), ABOUT)
    folder.delete(prefix(MODEL, release) + "manifest.json")
    with pytest.raises(ObjectMissing):
        fetch_release(folder, MODEL, release, tmp_path / "fetched")


def served(store: FolderStore) -> tuple[int, str, str]:
    channel, _ = read_channel(store, MODEL)
    assert channel
    return channel.generation, channel.release, channel.previous


def test_the_channel_follows_the_generations(folder: FolderStore) -> None:
    assert read_channel(folder, MODEL) == (None, None)
    flip(folder, MODEL, entry(1))
    assert served(folder) == (1, "release-1", "")
    flip(folder, MODEL, entry(2))
    assert served(folder) == (2, "release-2", "release-1")
    flip(folder, MODEL, entry(3, "release-1", restores=1, actor="operator"))
    assert served(folder) == (3, "release-1", "release-2")


@pytest.mark.parametrize("late", [1, 2])
def test_an_older_generation_never_flips_it_back(folder: FolderStore, late: int) -> None:
    flip(folder, MODEL, entry(2))
    before = read_channel(folder, MODEL)
    assert flip(folder, MODEL, entry(late)).generation == 2
    assert read_channel(folder, MODEL) == before


def test_concurrent_flips_end_at_the_newest(folder: FolderStore) -> None:
    together = Barrier(THREADS)

    def publish(generation: int) -> int:
        together.wait()
        for conflicts in range(100):
            try:
                flip(folder, MODEL, entry(generation))
            except StoreConflict:
                continue
            return conflicts
        raise AssertionError("it never succeeded")

    for round_ in range(3):
        generations = range(round_ * THREADS + 1, (round_ + 1) * THREADS + 1)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(publish, generations))
        assert served(folder)[:2] == (generations[-1], f"release-{generations[-1]}")


def later(manifest: bytes) -> bytes:
    """A manifest as a later version of the software writes it: with more fields, in another form."""
    return json.dumps(json.loads(manifest) | {"signed_by": "ada"}, indent=1).encode()


def put_later(store: FolderStore, made: Path, change: Callable[[bytes], bytes] = later) -> tuple[str, bytes]:
    """A release of a later version, and its manifest."""
    manifest = change(render(describe(made, ABOUT)))
    put_release(store, MODEL, name_of(manifest), manifest, lambda name: made / name)
    return name_of(manifest), manifest


def test_a_release_is_named_by_the_bytes_of_its_manifest(folder: FolderStore, tmp_path: Path) -> None:
    release = write_release(folder, MODEL, adapter(tmp_path / "made"), ABOUT)
    written = folder.read(prefix(MODEL, release) + "manifest.json")
    assert release == hashlib.sha256(written).hexdigest()[:16]
    folder.write(prefix(MODEL, release) + "manifest.json", written + b" ")
    with pytest.raises(ReleaseCorrupt, match=r"manifest\.json"):
        verify_release(folder, MODEL, release)


def test_a_release_of_a_later_version_is_read_and_copied_as_it_is(folder: FolderStore, tmp_path: Path) -> None:
    release, manifest = put_later(folder, adapter(tmp_path / "made"))
    assert verify_release(folder, MODEL, release) == describe(tmp_path / "made", ABOUT)
    fetch_release(folder, MODEL, release, tmp_path / "fetched")
    public, promoted = FolderStore(tmp_path / "public"), entry(1, release)
    for _ in range(2):
        publish_to_store(folder, public, MODEL, promoted)
    assert read_manifest(public, MODEL, release) == read_manifest(folder, MODEL, release) == manifest
    assert verify_release(public, MODEL, release) == verify_release(folder, MODEL, release)


def test_a_manifest_that_was_changed_is_no_release(folder: FolderStore, tmp_path: Path) -> None:
    release = write_release(folder, MODEL, adapter(tmp_path / "made"), ABOUT)
    key = prefix(MODEL, release) + "manifest.json"
    for damaged in (b"", b"\xff", b"[]", folder.read(key).replace(b"adire_style", b"other_style")):
        folder.write(key, damaged)
        with pytest.raises(ReleaseCorrupt, match=r"manifest\.json"):
            verify_release(folder, MODEL, release)


def test_a_release_of_a_newer_major_version_is_refused(folder: FolderStore, tmp_path: Path) -> None:
    release, _ = put_later(folder, adapter(tmp_path / "made"))
    manifest = json.dumps({"schema_version": 2, "contents": {}}).encode()
    folder.write(prefix(MODEL, name_of(manifest)) + "manifest.json", manifest)
    with pytest.raises(DocumentNewer, match=r"manifest\.json.*schema version 2, and this dyeworks knows 1; update dye"):
        verify_release(folder, MODEL, name_of(manifest))
    assert verify_release(folder, MODEL, release)
