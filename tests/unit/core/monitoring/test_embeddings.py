"""The cache of embeddings: each prompt once a window for all machines, whatever happens to their disks."""

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
from tasks.core.monitoring.embeddings import CAPTIONS, EmbeddingCache, batches, text_key
from tasks.core.store import FolderStore, S3Store, Store
from tasks.core.traffic.prompt_log import PromptLine
from tests.counting_store import CountingStore
from tests.s3_server import connect
from tests.shop import MODEL, ago, line

D = 7
PLACE = f"models/{MODEL}/drift/embeddings/"


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


def lines_of(*texts: str, hours: float = 1) -> list[PromptLine]:
    """Lines of one hour."""
    return [line(hours, f"{hours}-{number}", text) for number, text in enumerate(texts)]


def texts_of(first: int, last: int) -> list[str]:
    return [f"rings {k}" for k in range(first, last)]


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


def cache_of(store: Store, machine: Path, encoder: str = "e") -> EmbeddingCache:
    return EmbeddingCache(store, MODEL, encoder, machine)


def segments(store: Store) -> list[str]:
    return list(store.list(PLACE))


def test_a_text_is_encoded_once_for_all_machines(store: Store, machines: Iterator[Path], encode: Encoder) -> None:
    for first in (0, 3, 1, 0):
        found = cache_of(store, next(machines)).embed(lines_of(*texts_of(first, first + 5)), encode)
        assert np.array_equal(found, vectors(texts_of(first, first + 5)))
        assert found.dtype == np.float32
    assert encode.asked == dict.fromkeys(texts_of(0, 8), 1)


def test_segments_lie_by_hour(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    cache_of(folder, next(machines)).embed([*lines_of("a", "b", hours=3), *lines_of("b", "c")], encode)
    hours = {key.removeprefix(PLACE).split("/")[1]: key for key in segments(folder)}
    assert sorted(hours) == [f"{ago(3):%Y-%m-%dT%H}", f"{ago(1):%Y-%m-%dT%H}"]
    early = cache_of(folder, next(machines))
    assert early.missing(lines_of("a", "b", hours=3)) == {f"{ago(3):%Y-%m-%dT%H}": ["b"]}, "b was asked again later"


def test_a_check_reads_the_hours_of_its_window_alone(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    writer = cache_of(folder, next(machines))
    for hours in range(1, 200):
        writer.embed(lines_of(f"rings {hours}", hours=hours), encode)
    counting = CountingStore(folder)
    cache = cache_of(counting, next(machines))
    cache.embed([each for hours in range(24, 0, -1) for each in lines_of(f"rings {hours}", hours=hours)], encode)
    assert sum(counting.requests.values()) == 25, "one listing and an object an hour"
    assert len(cache.vectors) == 24
    assert set(encode.asked.values()) == {1}


def test_a_prompt_that_is_always_asked_is_embedded_once_a_window(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    for now in range(72, 0, -1):
        window = [each for hours in range(now + 23, now - 1, -1) for each in lines_of("rings", hours=hours)]
        cache_of(folder, next(machines)).embed(window, encode)
    assert encode.asked == {"rings": 3}


def test_missing_texts_are_found_again_once_another_monitor_added_them(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    one, other = (cache_of(folder, next(machines)) for _ in range(2))
    (hour,) = one.missing(lines_of("a"))
    assert other.missing(lines_of("c", "b", "a", "c")) == {hour: ["c", "b", "a"]}
    one.embed(lines_of("a", "b"), encode)
    assert other.missing(lines_of("c", "b", "a", "c")) == {hour: ["c"]}


def test_a_worker_stores_a_batch_without_reading(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    asked = lines_of(*texts_of(0, 10))
    check, counting = cache_of(folder, next(machines)), CountingStore(folder)
    for batch in batches(check.missing(asked), 4):
        cache_of(counting, next(machines)).add(batch, encode)
    assert counting.requests == {f"write models/{MODEL}/drift": 3}
    assert check.missing(asked) == {}
    assert np.array_equal(check.embed(asked, encode), vectors(texts_of(0, 10)))
    assert encode.asked == dict.fromkeys(texts_of(0, 10), 1)


def test_batches_hold_all_texts_of_all_places_once() -> None:
    texts = {"2026-03-20T11": ["a", "b", "c"], "2026-03-20T12": ["d"], CAPTIONS: ["e", "f"]}
    assert batches(texts, 4) == [
        {"2026-03-20T11": ["a", "b", "c"], "2026-03-20T12": ["d"]},
        {CAPTIONS: ["e", "f"]},
    ]
    assert batches(texts, 2)[1] == {"2026-03-20T11": ["c"], "2026-03-20T12": ["d"]}
    assert batches({}, 4) == []


def test_a_second_check_of_a_machine_reads_no_segment_again(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    cache_of(folder, next(machines)).embed(lines_of("a"), encode)
    place = next(machines)
    cache_of(folder, place).embed(lines_of("a"), encode)
    for key in segments(folder):
        folder.write(key, b"no longer readable")
    assert np.array_equal(cache_of(folder, place).embed(lines_of("a"), encode), vectors(["a"]))


def test_order_and_repeats_are_preserved(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    asked = ["b", "a", "b", "c", "a", "b"]
    cache = cache_of(folder, next(machines))
    assert np.array_equal(cache.embed(lines_of(*asked), encode), vectors(asked))
    assert max(encode.asked.values()) == 1
    assert np.array_equal(cache.embed(lines_of(*asked[::-1]), encode), vectors(asked[::-1]))


def test_no_texts_encode_nothing(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    assert len(cache_of(folder, next(machines)).embed([], encode)) == 0
    assert not encode.asked
    assert segments(folder) == []


@pytest.mark.parametrize("text", ["", "藍染めの布", "tie\u2028dye", "cafe\u0301", "👗" * 300, "a\0b", " a "])
def test_any_text_has_an_embedding_of_its_own(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder, text: str
) -> None:
    asked = [text, text + "x", "caf\u00e9", "a"]
    for _ in range(2):
        assert np.array_equal(cache_of(folder, next(machines)).embed(lines_of(*asked), encode), vectors(asked))
    assert max(encode.asked.values()) == 1


def test_vectors_round_trip_exactly(folder: FolderStore, machines: Iterator[Path]) -> None:
    odd = np.array([[1e-45, -0.0, 3.4028235e38], [np.pi, 1 / 3, 2**-126]], np.float32)
    for _ in range(2):
        back = cache_of(folder, next(machines)).embed(lines_of("a", "b"), lambda _: odd)
    assert back.tobytes() == odd.tobytes()


def test_encoders_share_nothing(folder: FolderStore, machines: Iterator[Path], encode: Encoder) -> None:
    place, asked = next(machines), lines_of("a")
    cache_of(folder, place).embed(asked, encode)
    other = cache_of(folder, place, "another/e")
    assert other.missing(asked) != {}
    assert np.array_equal(other.embed(asked, lambda t: -vectors(t)), -vectors(["a"]))
    assert np.array_equal(cache_of(folder, place).embed(asked, encode), vectors(["a"]))


def test_concurrent_monitors_lose_nothing_and_agree(store: Store, machines: Iterator[Path]) -> None:
    caches = [cache_of(store, next(machines)) for _ in range(4)]
    jobs = [
        (caches[k], texts_of(10 * (k // 2) + 5 * step, 10 * (k // 2) + 5 * step + 8))
        for step in range(3)
        for k in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: job[0].embed(lines_of(*job[1]), vectors), jobs))
    assert all(np.array_equal(rows, vectors(texts)) for rows, (_, texts) in zip(found, jobs, strict=True))
    encode = Encoder()
    asked = sorted({text for _, texts in jobs for text in texts})
    assert np.array_equal(cache_of(store, next(machines)).embed(lines_of(*asked), encode), vectors(asked))
    assert not encode.asked


def test_captions_are_kept_and_become_one_segment_when_there_are_many(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "MOST_SEGMENTS", 3)
    for count in range(1, 7):
        captions = texts_of(count, 2 * count)
        cache = cache_of(folder, next(machines))
        cache.add(cache.missing([], captions), encode)
        assert np.array_equal(cache.rows(captions), vectors(captions))
        cache.merge_captions(captions)
        assert len(list(folder.list(f"models/{MODEL}/drift/captions/"))) <= 3
    assert encode.asked == dict.fromkeys(texts_of(1, 12), 1)
    assert segments(folder) == []


def test_segments_of_old_hours_are_deleted_here_and_in_the_store(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder
) -> None:
    place = next(machines)
    for encoder in ("before", "e"):
        for hours in (50, 20):
            for _ in range(2):
                cache_of(folder, place, encoder).embed(lines_of("a", hours=hours), encode)
    cache_of(folder, place).forget(ago(30))
    assert [key.split("/")[5] for key in segments(folder)] == [f"{ago(20):%Y-%m-%dT%H}"] * 2
    assert {path.parent.name for path in place.rglob("*.npy")} == {f"{ago(20):%Y-%m-%dT%H}"}


class DeletedMeanwhile(FolderStore):
    """A store in which the next segment is deleted just before it is read."""

    armed = False

    def read(self, key: str) -> bytes:
        if self.armed and key.startswith(PLACE):
            self.armed = False
            self.delete(key)
        return super().read(key)


def test_a_segment_that_is_deleted_meanwhile_is_embedded_again(
    tmp_path: Path, machines: Iterator[Path], encode: Encoder
) -> None:
    store = DeletedMeanwhile(tmp_path / "store")
    cache_of(store, next(machines)).embed(lines_of("a"), encode)
    store.armed = True
    assert np.array_equal(cache_of(store, next(machines)).embed(lines_of("a"), encode), vectors(["a"]))
    assert encode.asked == {"a": 2}


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
    cache_of(folder, next(machines)).embed(lines_of("a"), encode)
    (key,) = segments(folder)
    folder.write(key, data)
    with pytest.raises(EmbeddingsDamaged, match=f"{key} cannot be read: .*; delete it, and its prompts are embedded"):
        cache_of(folder, next(machines)).missing(lines_of("a"))
    folder.delete(key)
    assert np.array_equal(cache_of(folder, next(machines)).embed(lines_of("a"), encode), vectors(["a"]))
    assert encode.asked == {"a": 2}


@pytest.mark.parametrize("names", ["*.npy", "*.keys.npy", "*.vectors.npy"])
@pytest.mark.parametrize("left", [None, 0, 20, 150])
def test_a_missing_or_truncated_local_copy_is_rebuilt(
    folder: FolderStore, machines: Iterator[Path], encode: Encoder, names: str, left: int | None
) -> None:
    place = next(machines)
    for _ in range(2):
        cache_of(folder, place).embed(lines_of("a", "b"), encode)
    for path in place.rglob(names):
        data = path.read_bytes()
        path.unlink()
        if left is not None:
            path.write_bytes(data[:left])
    assert np.array_equal(cache_of(folder, place).embed(lines_of("b", "a"), encode), vectors(["b", "a"]))
    assert encode.asked == {"a": 1, "b": 1}


def test_an_encoder_that_loses_a_text_stores_nothing(folder: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(BadEmbeddings, match="returned 1 embeddings for 2 prompts"):
        cache_of(folder, tmp_path / "local").embed(lines_of("a", "b"), lambda _: np.zeros((1, 4), dtype=np.float32))
    assert segments(folder) == []
