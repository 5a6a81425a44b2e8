"""One suite over both stores: a real folder, and a real S3 server (SeaweedFS) through a real client."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.core.errors import (
    BadKey,
    ObjectExists,
    ObjectMissing,
    ObjectTooLarge,
    ObjectUnreadable,
    StoreConflict,
    StoreUnusable,
)
from tasks.core.store import FolderStore, S3Store, Store, delete_prefix, download_folder, open_store, upload_folder
from tests.s3_server import connect, put, refusing

pytestmark = pytest.mark.any_key

PROCESSES, THREADS, INCREMENTS = 2, 3, 5
BAD_KEYS = ["", "/a", "a/", "a//b", "a/../b", "..", ".", "a/./b", "a\\b", "a\0b", ".dyeworks-a", "a/.dyeworks-b/c"]
BAD_KEYS += ["a/b\nc", "a\x85", "\udce9.png", "a" * 256, "/".join(["a" * 200] * 5)]


@pytest.fixture(scope="module")
def client(bucket: str) -> Any:
    return connect()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return S3Store(f"s3://dyeworks/{uuid4().hex}", request.getfixturevalue("client"))


def test_roundtrip(store: Store) -> None:
    assert not store.exists("a/b.json")
    store.write("a/b.json", b"one")
    store.write("a/b.json", b"two")
    assert store.exists("a/b.json")
    assert store.read("a/b.json") == store.read_versioned("a/b.json")[0] == b"two"
    assert open_store(store.url).read("a/b.json") == b"two"
    store.delete("a/b.json")
    store.delete("a/b.json")
    assert not store.exists("a/b.json")


@pytest.mark.parametrize("read", ["read", "read_versioned"])
def test_missing(store: Store, read: str) -> None:
    store.write("a/b", b"")
    for key in ("c", "a", "a/b/c"):
        assert not store.exists(key)
        with pytest.raises(ObjectMissing, match=f"'{key}'"):
            getattr(store, read)(key)


def test_no_more_is_read_than_is_asked_for(store: Store) -> None:
    store.write("a", b"four")
    assert store.read_within("a", 4) == b"four"
    with pytest.raises(ObjectTooLarge, match=r"object .a. in store .* has 4 bytes, more than 3; make it smaller"):
        store.read_within("a", 3)
    with pytest.raises(ObjectMissing, match="'b'"):
        store.read_within("b", 3)


def test_create_twice(store: Store) -> None:
    store.create("a/1.json", b"first")
    with pytest.raises(ObjectExists):
        store.create("a/1.json", b"second")
    assert store.read("a/1.json") == b"first"


def test_swap(store: Store) -> None:
    store.swap("pointer", b"one", None)
    _, version = store.read_versioned("pointer")
    store.swap("pointer", b"two", version)
    with pytest.raises(StoreConflict):
        store.swap("pointer", b"three", version)
    with pytest.raises(StoreConflict):
        store.swap("pointer", b"three", None)
    assert store.read("pointer") == b"two"


def test_swap_of_a_deleted_object(store: Store) -> None:
    store.write("pointer", b"one")
    _, version = store.read_versioned("pointer")
    store.delete("pointer")
    with pytest.raises(StoreConflict):
        store.swap("pointer", b"two", version)
    with pytest.raises(StoreConflict):
        store.swap("no/such/folder", b"two", version)


def test_one_creator_wins(store: Store) -> None:
    def wins(writer: int) -> bool:
        try:
            store.create("ledger/7.json", f"writer {writer}".encode())
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(wins, range(24)))
    assert won.count(True) == 1
    assert store.read("ledger/7.json") == f"writer {won.index(True)}".encode()
    assert list(store.list("")) == ["ledger/7.json"]


def increment(store: Store) -> None:
    """Add one to the counter; the writer's id tells one's own write from another's."""
    while True:
        data, version = store.read_versioned("counter")
        try:
            return store.swap("counter", b"%d %s" % (int(data.split()[0]) + 1, uuid4().hex.encode()), version)
        except StoreConflict:
            continue


def increment_in_threads(url: str) -> None:
    store = open_store(url)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(increment, [store] * (THREADS * INCREMENTS)))


def test_no_increment_is_lost(store: Store) -> None:
    store.swap("counter", b"0", None)
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        list(pool.map(increment_in_threads, [store.url] * PROCESSES))
    assert int(store.read("counter").split()[0]) == PROCESSES * THREADS * INCREMENTS
    assert list(store.list("")) == ["counter"]


def test_list_is_sorted_and_scoped(store: Store) -> None:
    keys = ["a/b/c", "a/b/c/d.txt", "a/b-c", "a/b.txt", "a/bc", "a/b/.hidden", "a/ä b+%.txt", "z"]
    keys.remove("a/b/c")  # on a folder, a key can't lie below another key
    for key in reversed(keys):
        store.write(key, b"")
    assert list(store.list("")) == sorted(keys)
    assert list(store.list("a/b/")) == ["a/b/.hidden", "a/b/c/d.txt"]
    assert list(store.list("a/b")) == sorted(key for key in keys if key.startswith("a/b"))
    assert list(store.list("nothing/here/")) == []


@pytest.mark.parametrize("prefix", ["models/m", "models/m/", ""])
def test_folders(store: Store, tmp_path: Path, prefix: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    (source / "manifest.json").write_bytes(b"{}")
    (source / "deep" / "weights").write_bytes(bytes(range(256)))
    upload_folder(store, source, prefix)
    download_folder(store, prefix, target)
    files = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert files == {"manifest.json": b"{}", "deep/weights": bytes(range(256))}


def test_upload_of_no_folder(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        upload_folder(store, tmp_path / "missing", "a")


def test_delete_prefix(store: Store) -> None:
    for key in ("a/b/c", "a/b/d/e", "a/bc"):
        store.write(key, b"")
    delete_prefix(store, "a/b")
    delete_prefix(store, "a/b")
    assert list(store.list("")) == ["a/bc"]
    with pytest.raises(BadKey):
        delete_prefix(store, "")


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys(store: Store, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.read(key),
        lambda: store.read_versioned(key),
        lambda: store.read_within(key, 9),
        lambda: store.write(key, b""),
        lambda: store.create(key, b""),
        lambda: store.swap(key, b"", None),
        lambda: store.swap(key, b"", "version"),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.list(f"{key}/"),
    ]
    for call in calls:
        with pytest.raises(BadKey):
            call()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreUnusable, match="file"):
            FolderStore(path)


def test_folder_urls(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20#?ä"
    FolderStore(folder).write("key", b"here")
    assert open_store(FolderStore(folder).url).read("key") == open_store(str(folder)).read("key") == b"here"


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "file://relative/folder", "S4://bucket"])
def test_unknown_urls(url: str) -> None:
    with pytest.raises(StoreUnusable, match="neither"):
        open_store(url)


def test_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write("a", b"1")
    with pytest.raises(ObjectExists):
        store.create("a", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_bucket_that_is_missing(bucket: str) -> None:
    for url in (f"s3://{bucket}-missing/prefix", "s3://", "s3:///prefix"):
        with pytest.raises(StoreUnusable):
            open_store(url)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense"])
def test_endpoint_that_is_down(bucket: str, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreUnusable):
        open_store(f"s3://{bucket}")


def test_own_write_whose_reply_was_lost(bucket: str) -> None:
    client = connect()
    store = S3Store(f"s3://{bucket}/{uuid4().hex}", client)
    sent: list[int] = []

    def send_again(attempts: int, **_: object) -> int | None:
        sent.append(attempts)
        return 0 if attempts == 1 else None

    client.meta.events.register("needs-retry.s3.PutObject", send_again)
    store.create("a", b"one, by w1")
    store.swap("a", b"two, by w1", store.read_versioned("a")[1])
    assert store.read("a") == b"two, by w1"
    assert sent == [1, 2, 1, 2]
    with pytest.raises(ObjectExists):
        store.create("a", b"three, by w2")


def test_an_open_file_is_stored_from_its_beginning(store: Store) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"four")
        store.put_file("a/b", file)
    assert store.read("a/b") == b"four"


def test_stat_is_what_a_listing_has(store: Store) -> None:
    store.write("a/b", b"four")
    assert [store.stat("a/b")] == [found._replace(time=store.stat("a/b").time) for found in store.scan("a/")]
    tag = store.stat("a/b").tag
    store.write("a/b", b"five")
    assert store.stat("a/b").tag != tag
    for key in ("a", "a/c"):
        with pytest.raises(ObjectMissing, match=f"'{key}'"):
            store.stat(key)


def test_s3_requests_carry_no_checksums_that_older_servers_do_not_know(bucket: str, tmp_path: Path) -> None:
    sent: list[dict[str, str]] = []
    store = S3Store(f"s3://{bucket}/{uuid4().hex}", part_bytes=5 * 2**20)
    store._client.meta.events.register(
        "before-send.s3", lambda request, **_: sent.append({"method": request.method, **request.headers})
    )
    store.write("a", b"one")
    store.create("b", b"one")
    store.swap("b", b"two", store.read_versioned("b")[1])
    (tmp_path / "large").write_bytes(bytes(6 * 2**20))
    store.put_file("c", tmp_path / "large")
    store.get_file("c", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == bytes(6 * 2**20)
    assert {"PUT", "POST", "GET"} <= {headers["method"] for headers in sent}
    names = {name.lower() for headers in sent for name in headers}
    assert not [name for name in names if "checksum" in name or "trailer" in name]
    assert not [headers for headers in sent if "aws-chunked" in str(headers)]


def test_s3_lists_page_by_page_and_no_folder_markers(bucket: str) -> None:
    root, client = uuid4().hex, connect()
    client.put_object(Bucket=bucket, Key=f"{root}/a/", Body=b"")
    client.put_object(Bucket=bucket, Key=f"{root}x/outside", Body=b"")
    store = S3Store(f"s3://{bucket}/{root}/", client)
    client.meta.events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: params | {"MaxKeys": 2})
    keys = ["a-b", "a.b", "a/00", "a/01", "a/01-b", "a/01/b", "a/02", "a/03"]  # SeaweedFS lists a-b after a/03
    for key in keys:
        store.write(key, b"")
    assert list(store.list("")) == keys


def test_no_download_leaves_the_folder(bucket: str, client: Any, tmp_path: Path) -> None:
    for key in ("evil/uploads/../../out", "evil/uploads/good"):
        put(client, key, b"")
    download_folder(S3Store(f"s3://{bucket}/evil", client), "uploads", tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["good"]


def test_s3_lists_what_it_cannot_read_apart(bucket: str) -> None:
    root, client = uuid4().hex, connect()
    odd = ["a//b", "a\\b", "./c", "../d", ".dyeworks-e.tmp", "f/", "g\x01h", "i" * 256]
    client.put_object(Bucket=bucket, Key=f"{root}/folder/", Body=b"")
    for key in [*odd, "good", "good "]:
        put(client, f"{root}/{key}", b"x")
    store = S3Store(f"s3://{bucket}/{root}", client)
    assert list(store.list("")) == ["good", "good "]
    assert sorted(store.list_odd("")) == sorted(odd)
    assert delete_prefix(store, "a") == 0


def test_a_folder_lists_what_it_cannot_read_apart(tmp_path: Path) -> None:
    store, elsewhere = FolderStore(tmp_path / "store"), tmp_path / "elsewhere"
    (elsewhere / "inside").mkdir(parents=True)
    store.swap("a/good", b"", None)
    store.swap("a/good", b"", store.read_versioned("a/good")[1])  # leaves a lock file
    place = tmp_path / "store" / "a"
    for name in (b"a\\b", b"caf\xe9.png", b"c\nd", b".dyeworks-e.png"):
        Path(os.fsdecode(os.fsencode(place) + b"/" + name)).write_bytes(b"")
    (place / "linked").symlink_to(elsewhere)
    (place / "round").symlink_to(place)
    assert list(store.list("a/")) == ["a/good"]
    odd = ["a/.dyeworks-e.png", "a/a\\b", "a/c\nd", "a/caf\udce9.png", "a/linked", "a/round"]
    assert sorted(store.list_odd("a/")) == odd
    assert list(store.list_odd("b/")) == list(store.list_odd("a/go")) == []


def test_what_cannot_be_read_is_told_apart_from_what_is_missing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert store.read("pipe") == b""
    (tmp_path / "away").symlink_to(tmp_path / "nowhere")
    assert list(store.list("")) == ["away", "pipe"]
    with pytest.raises(ObjectMissing):
        store.read("away")
    store.write("locked", b"")
    (tmp_path / "locked").chmod(0)
    with without_privileges(), pytest.raises(ObjectUnreadable, match=r"'locked'.*Permission denied"):
        store.read("locked")


def test_a_folder_that_cannot_be_read_is_odd() -> None:
    with tempfile.TemporaryDirectory() as name:  # others may come into it, unlike pytest's
        Path(name).chmod(0o755)
        store = FolderStore(Path(name))
        store.write("locked/a", b"")
        (Path(name) / "locked").chmod(0)
        with without_privileges():
            found = list(store.list("")), list(store.list_odd(""))
        (Path(name) / "locked").chmod(0o755)
    assert found == ([], ["locked"])


@contextmanager
def without_privileges() -> Iterator[None]:
    """As somebody to whom permissions apply: to root none do."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_an_archived_object_is_told_apart_from_a_missing_one(bucket: str) -> None:
    root, client = uuid4().hex, connect()
    client.put_object(Bucket=bucket, Key=f"{root}/old", Body=b"x", StorageClass="GLACIER")
    archive = refusing(client, "GetObject", "InvalidObjectState", 403)  # SeaweedFS archives nothing
    with pytest.raises(ObjectUnreadable, match="'old'"):
        S3Store(f"s3://{bucket}/{root}", archive).read("old")


def test_folders_do_not_pay_for_boto3(tmp_path: Path) -> None:
    code = f"import sys; from tasks.core.store import open_store; open_store({str(tmp_path)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tasks.core.store.s3" in loaded
    assert not {"boto3", "botocore"} & set(loaded)


def test_a_folder_that_is_gone_is_no_empty_store_and_is_not_made_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.write("a", b"1")
    (tmp_path / "store").rename(tmp_path / "away")
    acts: list[Callable[[], object]] = [
        lambda: store.read("a"),
        lambda: store.write("a", b"2"),
        lambda: store.create("b", b"2"),
        lambda: store.swap("a", b"2", "1"),
        lambda: store.swap("b", b"2", None),
        lambda: store.exists("a"),
        lambda: store.list(""),
        lambda: store.delete("a"),
    ]
    for act in acts:
        with pytest.raises(StoreUnusable, match="its folder is gone"):
            act()
    assert not (tmp_path / "store").exists()
    (tmp_path / "away").rename(tmp_path / "store")
    assert store.read("a") == b"1"
