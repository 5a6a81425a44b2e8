"""Publishing to a second store: atomic, idempotent, with multipart uploads."""

from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest
from boto3.exceptions import S3UploadFailedError

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest, PublishRequest
from tasks.core.errors import ObjectExists, PublishRefused, ReleaseCorrupt, StoreUnusable
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.targets import publish_to_store
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import fetch_release, prefix
from tasks.core.store import FolderStore, S3Store, Store, open_store
from tests.adire import adire, installed
from tests.candidates import evaluated
from tests.s3_server import connect, refusing

MIB = 2**20


@pytest.fixture
def url(bucket: str) -> str:
    """A new prefix on the server."""
    return f"s3://{bucket}/{uuid4().hex}"


@pytest.fixture(params=["folder", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a second store."""
    return str(tmp_path / "public") if request.param == "folder" else str(request.getfixturevalue("url"))


def counted(url: str, part_bytes: int = 64 * MIB) -> tuple[S3Store, "Counter[str]"]:
    """A store, and the number of requests by operation."""
    client, asked = connect(), Counter[str]()
    client.meta.events.register("before-call.s3", lambda model, **_: asked.update([model.name]))
    return S3Store(url, client, part_bytes), asked


def generation(store: Store, model: ModelConfig, training: str = "a") -> str:
    """Promote a training; returns its release."""
    request = PromoteRequest(evaluation=evaluated(store, training, len(history(store, model.name))))
    return promote(installed(store), model, request).release


def test_a_published_release_is_complete_and_the_channel_points_at_it(
    folder: FolderStore, model: ModelConfig, target: str, tmp_path: Path
) -> None:
    shop = adire(publishing={"store": target})
    for number, training in enumerate("ab", 1):
        release = generation(folder, shop, training)
        result = publish(installed(folder), shop, PublishRequest())
        assert result.places == {target: release}
        public = open_store(target)
        channel, _ = read_channel(public, shop.name)
        assert channel is not None
        assert (channel.generation, channel.release) == (number, release)
        fetch_release(public, shop.name, channel.release, tmp_path / training)
        assert (tmp_path / training / WEIGHTS).read_bytes() == training.encode()


def test_the_second_time_nothing_is_uploaded(folder: FolderStore, model: ModelConfig, url: str) -> None:
    generation(folder, model)
    (entry,) = history(folder, model.name)
    target, asked = counted(url)
    publish_to_store(folder, target, model.name, entry)
    assert asked["PutObject"] == 4, "card, weights, manifest, channel"
    asked.clear()
    publish_to_store(folder, target, model.name, entry)
    assert set(asked) == {"GetObject"}, "it is only read back"


def test_a_changed_file_is_detected_by_readers_and_repaired_by_publishing(
    folder: FolderStore, model: ModelConfig, target: str, tmp_path: Path
) -> None:
    release = generation(folder, model)
    (entry,) = history(folder, model.name)
    public = open_store(target)
    publish_to_store(folder, public, model.name, entry)
    public.write(prefix(model.name, release) + WEIGHTS, b"tampered")
    with pytest.raises(ReleaseCorrupt, match=WEIGHTS):
        fetch_release(public, model.name, release, tmp_path / "fetched")
    publish_to_store(folder, public, model.name, entry)
    fetch_release(public, model.name, release, tmp_path / "fetched")


def test_a_damaged_release_is_not_published(folder: FolderStore, model: ModelConfig, target: str) -> None:
    release = generation(folder, model)
    folder.write(prefix(model.name, release) + WEIGHTS, b"tampered")
    public = open_store(target)
    with pytest.raises(ReleaseCorrupt, match=WEIGHTS):
        publish_to_store(folder, public, model.name, history(folder, model.name)[0])
    assert not public.exists(prefix(model.name, release) + "manifest.json"), "it is not a complete release there"


def test_an_older_generation_never_flips_it_back(folder: FolderStore, model: ModelConfig, target: str) -> None:
    for training in "ab":
        generation(folder, model, training)
    first, second = history(folder, model.name)
    public = open_store(target)
    publish_to_store(folder, public, model.name, second)
    assert publish_to_store(folder, public, model.name, first).generation == 2


def test_an_unusable_place_gets_nothing_and_does_not_delay_the_champion(
    folder: FolderStore, model: ModelConfig, bucket: str, tmp_path: Path
) -> None:
    release = generation(folder, model)
    (tmp_path / "file").write_bytes(b"")
    for place in (f"s3://{bucket}-missing/prefix", str(tmp_path / "file"), "gs://bucket"):
        shop = adire(publishing={"store": place})
        with pytest.raises(PublishRefused, match=r"publishing.store of the model.*nothing was uploaded"):
            publish(installed(folder), shop, PublishRequest())
    channel, _ = read_channel(folder, model.name)
    assert channel is not None
    assert channel.release == release


@pytest.mark.parametrize(
    ("header", "message"), [("If-None-Match", "ignores If-None-Match"), ("If-Match", "ignores If-M")]
)
def test_a_store_that_ignores_conditions_is_rejected(
    folder: FolderStore, model: ModelConfig, url: str, header: str, message: str
) -> None:
    client = connect()
    client.meta.events.register("before-sign.s3", lambda request, **_: request.headers.__delitem__(header))
    lax = S3Store(url, client)
    with pytest.raises(StoreUnusable, match=f"{message}.*take a store that keeps them"):
        promote(installed(lax), model, PromoteRequest(evaluation=evaluated(lax, "a", 0)))
    assert not list(lax.list("models/adire/promotions/")) + list(lax.list("models/adire/releases/"))
    assert not list(lax.list("probes/")), "the probe deletes its object"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "large"
    path.write_bytes(bytes(5 * MIB) + b"\1" * (5 * MIB) + b"\2" * 1000)
    return path


def test_a_large_file_is_uploaded_in_parts(url: str, large: Path, tmp_path: Path) -> None:
    store, asked = counted(url, 5 * MIB)
    store.put_file("a/large", large)
    assert (asked["UploadPart"], asked["CreateMultipartUpload"], asked["PutObject"]) == (3, 1, 0)
    store.get_file("a/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


def test_a_failed_upload_leaves_nothing_and_the_next_completes_it(url: str, large: Path) -> None:
    store, asked = counted(url, 5 * MIB)
    refusing(store._client, "UploadPart", "AccessDenied", 403, "partNumber=2")
    with pytest.raises(S3UploadFailedError, match=r"large.*AccessDenied"):
        store.put_file("a/large", large)
    assert asked["AbortMultipartUpload"] == 1
    assert not store.exists("a/large")
    bucket, place = url.removeprefix("s3://").split("/", 1)
    assert not store._client.list_multipart_uploads(Bucket=bucket, Prefix=place).get("Uploads")
    again, _ = counted(url, 5 * MIB)
    again.put_file("a/large", large)
    assert again.read("a/large") == large.read_bytes()


@pytest.mark.any_key
def test_large_files_in_a_folder(folder: FolderStore, large: Path, tmp_path: Path) -> None:
    folder.put_file("a/large", large)
    folder.get_file("a/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes() == folder.read("a/large")
    with pytest.raises(ObjectExists):
        folder.create("a/large", b"")
    assert [p.name for p in (tmp_path / "store/a").iterdir()] == ["large"], "no temporary file is left"
