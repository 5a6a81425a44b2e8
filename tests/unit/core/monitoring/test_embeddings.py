"""The cache of embeddings: each prompt once for all machines, whatever happens to their disks."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from safetensors.numpy import save

from tasks.core.drift.errors import BadEmbeddings
from tasks.core.drift.rows import Floats
from tasks.core.errors import EmbeddingsDamaged
from tasks.core.monitoring import embeddings
from tasks.core.monitoring.embeddings import EmbeddingCache, text_key
from tasks.core.store import FolderStore, S3Store, Store
from tests.s3_server import connect

D = 7


class Encoder:
    """A vector for each text, by its hash; counts."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, texts: list[str]) -> Floats:
        self.asked.update(texts)
        return vectors(texts)


def vectors(texts: list[str]) -> Floats:
    seeds = [int.from_bytes(text_key(text)) for text in texts]
    return np.array([np.random.default_rng(s).standard_normal(D) for s in seeds], np.float32).reshape(-1, D)


@pytest.fixture
def encode() -> Encoder:
    return Encoder()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return S3Store(f"s3://{request.getfixturevalue('bucket')}/{uuid4().hex}", connect())


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Path]:
    """Cache folders of new machines."""
    return (tmp_path / f"machine-{k}" for k in range(10_000))


def texts_of(first: int, last: int) -> list[str]:
    return [f"rings {k}" for k in range(first, last)]


def segments(store: Store) -> list[str]:
    return list(store.list("embeddings/"))


def test_a_text_is_encoded_once_for_all_machines(store: Store, machines: Iterator[Path], encode: Encoder) -> None:
    for first in (0, 3, 1, 0):
        cache = EmbeddingCache(store, "e", next(machines))
        found = cache.embed(texts_of(first, first + 5), encode)
        assert np.array_equal(found, vectors(texts_of(first, first + 5)))
        assert found.dtype == np.float32
    assert encode.asked == dict.fromkeys(texts_of(0, 8), 1)


def test_a_refresh_loads_what_another_monitor_added(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    one, other = (EmbeddingCache(folder, "e", next(machines)) for _ in range(2))
    one.embed(["a", "b"], encode)
    assert other.missing(["c", "b", "a", "c"]) == ["c", "b", "a"]
    other.refresh()
    assert other.missing(["c", "b", "a", "c"]) == ["c"]


def test_a_second_machine_reads_each_segment_once(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    EmbeddingCache(folder, "e", next(machines)).embed(["a"], encode)
    place = next(machines)
    EmbeddingCache(folder, "e", place)
    for key in segments(folder):
        folder.write(key, b"no longer readable")
    assert np.array_equal(EmbeddingCache(folder, "e", place).embed(["a"], encode), vectors(["a"]))


def test_order_and_repeats_are_preserved(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    asked = ["b", "a", "b", "c", "a", "b"]
    cache = EmbeddingCache(folder, "e", next(machines))
    assert np.array_equal(cache.embed(asked, encode), vectors(asked))
    assert max(encode.asked.values()) == 1
    assert np.array_equal(cache.embed(asked[::-1], encode), vectors(asked[::-1]))


def test_no_texts_encode_nothing(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    cache = EmbeddingCache(folder, "e", next(machines))
    assert len(cache.embed([], encode)) == 0
    assert not encode.asked
    assert segments(folder) == []


@pytest.mark.parametrize("text", ["", "藍染めの布", "tie\u2028dye", "cafe\u0301", "👗" * 300, "a\0b", " a "])
def test_any_text_has_an_embedding_of_its_own(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder, text: str
) -> None:
    asked = [text, text + "x", "caf\u00e9", "a"]
    EmbeddingCache(folder, "e", next(machines)).embed(asked, encode)
    assert np.array_equal(EmbeddingCache(folder, "e", next(machines)).embed(asked, encode), vectors(asked))
    assert max(encode.asked.values()) == 1


def test_vectors_round_trip_exactly(folder: FolderStore, machines: Iterator[Path]) -> None:
    odd = np.array([[1e-45, -0.0, 3.4028235e38], [np.pi, 1 / 3, 2**-126]], np.float32)
    EmbeddingCache(folder, "e", next(machines)).embed(["a", "b"], lambda _: odd)
    back = EmbeddingCache(folder, "e", next(machines)).embed(["a", "b"], lambda _: odd)
    assert back.tobytes() == odd.tobytes()


def test_encoders_share_nothing(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    place = next(machines)
    EmbeddingCache(folder, "e", place).embed(["a"], encode)
    other = EmbeddingCache(folder, "another/e", place)
    assert other.missing(["a"]) == ["a"]
    assert np.array_equal(other.embed(["a"], lambda t: -vectors(t)), -vectors(["a"]))
    assert np.array_equal(EmbeddingCache(folder, "e", place).embed(["a"], encode), vectors(["a"]))


def test_concurrent_monitors_lose_nothing_and_agree(store: Store, machines: Iterator[Path]) -> None:
    caches = [EmbeddingCache(store, "e", next(machines)) for _ in range(4)]
    jobs = [
        (caches[k], texts_of(10 * (k // 2) + 5 * step, 10 * (k // 2) + 5 * step + 8))
        for step in range(3)
        for k in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: job[0].embed(job[1], vectors), jobs))
    assert all(np.array_equal(rows, vectors(texts)) for rows, (_, texts) in zip(found, jobs, strict=True))
    encode = Encoder()
    asked = sorted({text for _, texts in jobs for text in texts})
    assert np.array_equal(EmbeddingCache(store, "e", next(machines)).embed(asked, encode), vectors(asked))
    assert not encode.asked


def test_concurrent_merges_lose_nothing(
    store: Store, machines: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "MOST_SEGMENTS", 3)
    caches = [EmbeddingCache(store, "e", next(machines)) for _ in range(3)]

    def work(cache: EmbeddingCache) -> bool:
        asked = [texts_of(k, k + 4) for k in range(0, 30, 3)]
        return all(np.array_equal(cache.embed(texts, vectors), vectors(texts)) for texts in asked)

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, caches))
    encode = Encoder()
    EmbeddingCache(store, "e", next(machines)).embed(texts_of(0, 31), encode)
    assert not encode.asked


def test_many_segments_are_merged_without_loss(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    most, place = embeddings.MOST_SEGMENTS, next(machines)
    cache = EmbeddingCache(folder, "e", place)
    for k in range(most):
        cache.embed(texts_of(k, k + 2), encode)
    assert len(segments(folder)) == most
    cache.embed(texts_of(most, most + 2), encode)
    assert len(segments(folder)) == 1
    assert len(list(place.rglob("*.npy"))) == 2, "the local copies of merged segments are deleted"
    for reader in (cache, EmbeddingCache(folder, "e", place), EmbeddingCache(folder, "e", next(machines))):
        assert np.array_equal(reader.embed(texts_of(0, most + 2), encode), vectors(texts_of(0, most + 2)))
    assert encode.asked == dict.fromkeys(texts_of(0, most + 2), 1)


class MergedMeanwhile(FolderStore):
    """A store in which `meanwhile` happens just before the next segment is read."""

    meanwhile: EmbeddingCache | None = None

    def read(self, key: str) -> bytes:
        other, self.meanwhile = self.meanwhile, None
        if other:
            other.merge()
        return super().read(key)


@pytest.fixture
def merged(tmp_path: Path) -> MergedMeanwhile:
    return MergedMeanwhile(tmp_path / "store")


def test_a_reader_that_listed_before_a_merge_still_gets_all(
    merged: MergedMeanwhile, machines: Iterator[Path], encode: Encoder
) -> None:
    writer = EmbeddingCache(merged, "e", next(machines))
    for k in range(5):
        writer.embed(texts_of(k, k + 1), encode)
    merged.meanwhile = writer
    reader = EmbeddingCache(merged, "e", next(machines))
    assert len(segments(merged)) == 1
    assert reader.missing(texts_of(0, 5)) == []


def test_a_segment_merged_while_it_is_added_again_is_found_in_the_merged_one(
    merged: MergedMeanwhile, machines: Iterator[Path], encode: Encoder
) -> None:
    first, second = (EmbeddingCache(merged, "e", next(machines)) for _ in range(2))
    first.embed(["a"], encode)
    first.embed(["b"], encode)
    merged.meanwhile = first
    assert np.array_equal(second.embed(["b"], encode), vectors(["b"]))


def test_a_machine_deletes_local_copies_of_segments_another_has_merged(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    place = next(machines)
    one, other = EmbeddingCache(folder, "e", next(machines)), EmbeddingCache(folder, "e", place)
    for k in range(3):
        other.embed(texts_of(k, k + 1), encode)
    one.refresh()
    one.merge()
    EmbeddingCache(folder, "e", place)
    assert len(list(place.rglob("*.npy"))) == 2
    assert np.array_equal(other.embed(texts_of(0, 3), encode), vectors(texts_of(0, 3))), "mapped segments stay readable"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no safetensors",
        save({"keys": np.zeros((1, 16), np.uint8)}),
        save({"keys": np.zeros((2, 16), np.uint8), "vectors": np.zeros((1, D), np.float32)}),
    ],
)
def test_a_damaged_segment_is_reported_and_can_be_deleted(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder, data: bytes
) -> None:
    EmbeddingCache(folder, "e", next(machines)).embed(["a"], encode)
    (key,) = segments(folder)
    folder.write(key, data)
    with pytest.raises(EmbeddingsDamaged, match=f"{key} cannot be read: .*; delete it, and its prompts are embedded"):
        EmbeddingCache(folder, "e", next(machines))
    folder.delete(key)
    assert np.array_equal(EmbeddingCache(folder, "e", next(machines)).embed(["a"], encode), vectors(["a"]))
    assert encode.asked == {"a": 2}


@pytest.mark.parametrize("names", ["*.npy", "*.keys.npy", "*.vectors.npy"])
@pytest.mark.parametrize("left", [None, 0, 20, 150])
def test_a_missing_or_truncated_local_copy_is_rebuilt(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder, names: str, left: int | None
) -> None:
    place = next(machines)
    EmbeddingCache(folder, "e", place).embed(["a", "b"], encode)
    for path in place.rglob(names):
        data = path.read_bytes()
        path.unlink()
        if left is not None:
            path.write_bytes(data[:left])
    assert np.array_equal(EmbeddingCache(folder, "e", place).embed(["b", "a"], encode), vectors(["b", "a"]))
    assert encode.asked == {"a": 1, "b": 1}


def test_an_encoder_that_loses_a_text_stores_nothing(folder: FolderStore, tmp_path: Path) -> None:
    cache = EmbeddingCache(folder, "broken", tmp_path / "local")
    with pytest.raises(BadEmbeddings, match="returned 1 embeddings for 2 prompts"):
        cache.embed(["a", "b"], lambda texts: np.zeros((1, 4), dtype=np.float32))
    assert list(folder.list("embeddings/")) == []
