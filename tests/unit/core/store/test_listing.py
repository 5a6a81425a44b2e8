"""Listings with sizes and times, from a key on and by folder; deletion of many; what interrupted writers leave."""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pytest

from tasks.core.store import FolderStore, S3Store, Store, open_store
from tasks.core.store.base import RESERVED
from tests.s3_server import connect

pytestmark = pytest.mark.any_key

NAMES = [f"log/{day:02d}/{hour:02d}.json" for day in (1, 2, 10) for hour in (0, 7, 23)]


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return S3Store(f"s3://{request.getfixturevalue('bucket')}/{uuid4().hex}", connect())


def test_sizes_times_and_tags(store: Store) -> None:
    begin = datetime.now(UTC) - timedelta(seconds=2)
    store.write("a/1", b"four")
    store.write("a/2", b"")
    first, second = store.scan("a/")
    assert [(each.key, each.size) for each in (first, second)] == [("a/1", 4), ("a/2", 0)]
    assert begin < first.time < datetime.now(UTC) + timedelta(seconds=2)
    assert [*store.scan("a/")] == [first, second]
    store.write("a/1", b"five")
    again, same = store.scan("a/")
    assert same == second
    assert (again.size, again.tag != first.tag) == (4, True)


def test_a_listing_begins_after_a_key(store: Store) -> None:
    for name in NAMES:
        store.write(name, b"")
    for number, name in enumerate(NAMES):
        assert [*store.list("log/", name)] == NAMES[number + 1 :]
    assert [each.key for each in store.scan("log/", "log/01~")] == NAMES[3:]
    assert [*store.list("log/", "log/99")] == []
    assert [*store.list("log/02/", "log/01/23.json")] == NAMES[3:6]


def test_folders(store: Store) -> None:
    for name in [*NAMES, "log/file", "other/a/b"]:
        store.write(name, b"")
    assert [*store.folders("log/")] == ["01", "02", "10"]
    assert [*store.folders("other/")] == ["a"]
    assert [*store.folders("none/")] == [*store.folders("log/01/")] == []


def test_deletion_of_many(store: Store) -> None:
    for name in NAMES:
        store.write(name, b"")
    store.delete_many(iter([*NAMES[1:], "log/missing"]))
    assert [*store.list("")] == NAMES[:1]
    store.delete_many([])


def test_deletion_of_more_than_one_request_takes(bucket: str) -> None:
    client = connect()
    store = S3Store(f"s3://{bucket}/{uuid4().hex}", client)
    store.write("a/b", b"")
    sizes: list[int] = []

    def note(params: dict[str, dict[str, list[object]]], **_: object) -> None:
        sizes.append(len(params["Delete"]["Objects"]))

    client.meta.events.register("provide-client-params.s3.DeleteObjects", note)
    store.delete_many(f"a/{number}" for number in range(1500))
    store.delete_many(["a/b"])
    assert sizes == [1000, 500, 1]
    assert [*store.list("")] == []


def test_what_interrupted_writers_left(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for key in ("a/b/c", "d/e", "f"):
        store.write(key, b"")
    store.delete("a/b/c")
    old, young = (tmp_path / "d" / f"{RESERVED}{name}.tmp" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    for path in (old, tmp_path / "a" / "b", tmp_path / "a"):
        os.utime(path, (0, 0))
    assert store.tidy(datetime.now(UTC) - timedelta(days=1)) == 1
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "a",  # it was changed just now, by the end of a/b
        "d",
        f"d/{young.name}",
        "d/e",
        "f",
    ]


def test_folders_that_are_removed_while_others_write(tmp_path: Path) -> None:
    store, done = FolderStore(tmp_path), Event()

    def sweep() -> None:
        while not done.wait(0.001):
            for folder, *_ in os.walk(tmp_path, topdown=False):
                with suppress(OSError):  # as `tidy` does, which waits for a day
                    if time.time() - Path(folder).stat().st_mtime > 0.05:
                        Path(folder).rmdir()

    thread = Thread(target=sweep)
    thread.start()
    try:
        for number in range(60):
            store.swap(f"a/{number % 6}/b", b"", None)
            store.delete(f"a/{number % 6}/b")
    finally:
        done.set()
        thread.join()
    assert not [*store.list("")]


def test_uploads_that_were_interrupted(bucket: str) -> None:
    client, root = connect(), uuid4().hex
    store = S3Store(f"s3://{bucket}/{root}", client)
    upload = client.create_multipart_upload(Bucket=bucket, Key=f"{root}/large")
    client.upload_part(Bucket=bucket, Key=f"{root}/large", UploadId=upload["UploadId"], PartNumber=1, Body=b"half")
    time.sleep(1)  # the server's times are whole seconds
    assert store.tidy(datetime.now(UTC) - timedelta(days=1)) == 0
    assert store.tidy(datetime.now(UTC) + timedelta(days=1)) == 1
    assert not client.list_multipart_uploads(Bucket=bucket, Prefix=root).get("Uploads")


def test_a_process_has_one_client(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = open_store(f"s3://{bucket}/a"), open_store(f"s3://{bucket}/b")
    assert isinstance(first, S3Store)
    assert isinstance(second, S3Store)
    assert open_store(f"s3://{bucket}/a") is first
    assert first._client is second._client
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    other = open_store(f"s3://{bucket}/a")
    assert isinstance(other, S3Store)
    assert other._client is not first._client


def test_a_purge_leaves_no_version(bucket: str) -> None:
    client, name = connect(), f"versions-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    store = S3Store(f"s3://{name}/a", client)
    for data in (b"one", b"two"):
        store.write("b", data)
        store.write("bc", data)
    store.purge(["b"], earlier=True)
    assert store.read("b") == b"two"
    assert versions(client, name, "a/b") == 1
    store.delete("b")
    assert versions(client, name, "a/b") == 2, "a deletion only marks"
    store.purge(["b"])
    assert versions(client, name, "a/b") == 0
    assert (store.read("bc"), versions(client, name, "a/bc")) == (b"two", 2)


def versions(client: Any, bucket: str, name: str) -> int:
    found = client.list_object_versions(Bucket=bucket, Prefix=name)
    return sum(each["Key"] == name for each in [*found.get("Versions", []), *found.get("DeleteMarkers", [])])


def test_a_purge_of_a_bucket_or_folder_without_versions(store: Store) -> None:
    store.write("a", b"")
    store.purge(["a"], earlier=True)
    assert store.exists("a")
    store.purge(["a", "missing"])
    assert not store.exists("a")


def test_folders_before_are_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, entered = FolderStore(tmp_path), list[str]()
    for name in NAMES:
        store.write(name, b"")
    scandir = os.scandir

    def note(path: Path | str) -> Any:
        entered.append(Path(path).relative_to(tmp_path).as_posix())
        return scandir(path)

    monkeypatch.setattr(os, "scandir", note)
    assert [*store.list("log/", "log/02/07.json")] == NAMES[5:]
    assert sorted(entered) == ["log", "log/02", "log/10"]
