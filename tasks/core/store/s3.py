"""A store under a prefix of an S3 bucket, at any endpoint (AWS_ENDPOINT_URL)."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tasks.core.errors import (
    DyeworksError,
    ObjectExists,
    ObjectMissing,
    ObjectTooLarge,
    ObjectUnreadable,
    StoreConflict,
    StoreUnusable,
)
from tasks.core.store.base import Listed, check_key, check_prefix, is_key

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectIdentifierTypeDef

MISSING = {"NoSuchKey", "404"}
REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "409", "412"}
FORBIDDEN = {"AccessDenied", "403"}
UNREADABLE = FORBIDDEN | {"InvalidObjectState"}  # the latter: archived
UNKNOWN = {"NotImplemented", "501"}
DELETED_AT_ONCE = 1000  # at most, by the protocol
CHUNK_BYTES = 2**20  # that are read at once
PART_BYTES = 64 * 2**20  # of a large file; also the size above which a file is sent in parts
CONCURRENCY = 4  # parts in flight
CONNECTIONS = 16  # that are kept: as many as write at once to try the conditions


class S3Store:
    """An S3 object for each object. boto3 is only imported when a store is opened."""

    def __init__(self, url: str, client: "S3Client | None" = None, part_bytes: int = PART_BYTES) -> None:
        self.url, self._part_bytes = url, part_bytes
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = _open(url, self._bucket, client)

    def read(self, key: str) -> bytes:
        """Return the object; raise ObjectMissing."""
        return self.read_versioned(key)[0]

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """Return the object and its ETag, without the quotes: Ceph refuses them in a condition."""
        found = self._get(key)
        return found["Body"].read(), found["ETag"].strip('"')

    def read_within(self, key: str, most: int) -> bytes:
        """Return the object if it has at most so many bytes; raise ObjectTooLarge or ObjectMissing."""
        found = self._get(key)
        if found["ContentLength"] > most:
            found["Body"].close()
            raise ObjectTooLarge(key, self.url, found["ContentLength"], most)
        return found["Body"].read()

    def write(self, key: str, data: bytes) -> None:
        """Write the object whole, over any other."""
        self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def create(self, key: str, data: bytes) -> None:
        """Write the object if there is none; raise ObjectExists."""
        if not self._put_if(key, data, None):
            raise ObjectExists(key, self.url)

    def swap(self, key: str, data: bytes, version: str | None) -> None:
        """Replace the version that was read (None: there was nothing); raise StoreConflict."""
        if not self._put_if(key, data, version):
            raise StoreConflict(key, self.url)

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        try:
            self.stat(key)
        except ObjectMissing:
            return False
        return True

    def stat(self, key: str) -> Listed:
        """The object as a listing has it; raise ObjectMissing."""
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
        except self._client.exceptions.ClientError as error:
            if _code(error) in MISSING:
                raise ObjectMissing(key, self.url) from error
            raise
        return Listed(key, found["ContentLength"], found["LastModified"].astimezone(UTC), found["ETag"].strip('"'))

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield every key that starts with the prefix, sorted: SeaweedFS lists by folder, 'a/b/c' before 'a/b-c'."""
        return (found.key for found in self.scan(prefix, after))

    def scan(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Yield every key that starts with the prefix, sorted; the tag is the ETag."""
        check_prefix(prefix)
        return iter(sorted(found for found in self._found(prefix, after) if found.key > after and is_key(found.key)))

    def list_odd(self, prefix: str) -> Iterator[str]:
        """Yield every bad key that starts with the prefix."""
        check_prefix(prefix)
        return (found.key for found in self._found(prefix) if not is_key(found.key))

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly below a prefix that ends with a slash, sorted."""
        check_prefix(prefix)
        place = self._prefix + prefix
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=place, Delimiter="/")
        found = (folder["Prefix"] for page in pages for folder in page.get("CommonPrefixes", []))
        names = (name.removeprefix(place).removesuffix("/") for name in found)
        return iter(sorted(name for name in names if is_key(prefix + name)))

    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""
        self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove these objects, a thousand with each request.

        Raises:
            StoreUnusable: the server did not delete some of them.
        """
        self._delete({"Key": self._name(key)} for key in keys)

    def purge(self, keys: Iterable[str], earlier: bool = False) -> None:
        """Remove every version of these objects, and the marks of deletions; raises as `delete_many` does."""
        for key in keys:
            found = [*self._versions(self._name(key), earlier)]
            self._delete(found)
            if not found and not earlier and self.exists(key):  # some servers list none of a bucket without versions
                self.delete(key)

    def _versions(self, name: str, earlier: bool) -> "Iterator[ObjectIdentifierTypeDef]":
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name)
        for found in (each for page in pages for each in (*page.get("Versions", []), *page.get("DeleteMarkers", []))):
            if found["Key"] == name and not (earlier and found["IsLatest"]):
                yield {"Key": name, "VersionId": found["VersionId"]}

    def _delete(self, objects: "Iterable[ObjectIdentifierTypeDef]") -> None:
        names = iter(objects)
        while some := list(islice(names, DELETED_AT_ONCE)):
            done = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": some, "Quiet": True})
            if faults := done.get("Errors", []):
                first = f"{faults[0].get('Key')}: {faults[0].get('Code')} {faults[0].get('Message')}"
                raise StoreUnusable(self.url, f"did not delete {len(faults)} objects, the first {first}")

    def tidy(self, before: datetime) -> int:
        """Abort the uploads of large files that began before this time and were interrupted."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        left = [found for page in pages for found in page.get("Uploads", []) if found["Initiated"] < before]
        for found in left:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=found["Key"], UploadId=found["UploadId"])
        return len(left)

    def put_file(self, key: str, source: Path | BinaryIO) -> None:
        """Write a file as the object, a large one in parts; one that fails is aborted.

        Raises:
            boto3.exceptions.S3UploadFailedError, ClientError: the server refused a request.
        """
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415

        size = self._part_bytes
        parts = TransferConfig(multipart_threshold=size + 1, multipart_chunksize=size, max_concurrency=CONCURRENCY)
        name = self._name(key)
        if isinstance(source, Path):
            self._client.upload_file(str(source), self._bucket, name, Config=parts)
        else:
            source.seek(0)
            self._client.upload_fileobj(source, self._bucket, name, Config=parts)

    def get_file(self, key: str, path: Path) -> None:
        """Write the object into a file; raise ObjectMissing."""
        found = self._get(key)
        with path.open("wb") as file:
            for chunk in found["Body"].iter_chunks(CHUNK_BYTES):
                file.write(chunk)

    def sha256(self, key: str) -> str:
        """The hash of the object, which is read whole: no S3 server returns one that can be trusted."""
        whole = hashlib.sha256()
        for chunk in self._get(key)["Body"].iter_chunks(CHUNK_BYTES):
            whole.update(chunk)
        return whole.hexdigest()

    def _get(self, key: str) -> "GetObjectOutputTypeDef":
        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._name(key))
        except self._client.exceptions.ClientError as error:
            if _code(error) in MISSING:
                raise ObjectMissing(key, self.url) from error
            if _code(error) in UNREADABLE:
                raise ObjectUnreadable(key, self.url, str(error)) from error
            raise

    def _name(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    def _found(self, prefix: str, after: str = "") -> Iterator[Listed]:
        pages = self._client.get_paginator("list_objects_v2")
        start = self._prefix + after if after else ""
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix, StartAfter=start):
            for found in page.get("Contents", []):
                if found["Size"] or not found["Key"].endswith("/"):  # the empty objects by which consoles show folders
                    key, time = found["Key"].removeprefix(self._prefix), found["LastModified"].astimezone(UTC)
                    yield Listed(key, found["Size"], time, found["ETag"].strip('"'))

    def _put_if(self, key: str, data: bytes, version: str | None) -> bool:
        """Whether the conditional write succeeded, now or in an attempt whose reply was lost."""
        name = self._name(key)
        try:
            if version is None:
                self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*")
            else:
                self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfMatch=version)
        except self._client.exceptions.ClientError as error:
            if _code(error) in UNKNOWN:
                raise StoreUnusable(self.url, "it knows no conditional writes (If-None-Match, If-Match)") from error
            if _code(error) in FORBIDDEN:
                raise StoreUnusable(self.url, f"may not be written: {error}") from error
            if _code(error) not in REFUSED:
                raise
            return self._holds(key, data)
        return True

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.read(key) == data
        except ObjectMissing:
            return False


def store_errors() -> tuple[type[Exception], ...]:
    """What a store's methods raise when it fails, with what S3's client does."""
    from boto3.exceptions import Boto3Error  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    return DyeworksError, OSError, Boto3Error, BotoCoreError, ClientError


def s3_store(url: str) -> S3Store:
    """The store of a URL, the same one in all of a process: its connections and what was read of it are used again."""
    return _store(url, _environment())


def _environment() -> frozenset[tuple[str, str]]:
    """What boto3 makes a client of, as far as it may change, and the process: a fork needs connections of its own."""
    own = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return frozenset((own | {"": str(os.getpid())}).items())


@lru_cache(maxsize=8)
def _store(url: str, environment: frozenset[tuple[str, str]]) -> S3Store:
    return S3Store(url)


@lru_cache(maxsize=8)
def _client(environment: frozenset[tuple[str, str]]) -> "S3Client":
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    # By default boto3 sends checksum trailers, which older S3-compatible servers store as a part of the object.
    plain = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=CONNECTIONS,
    )
    return boto3.session.Session().client("s3", config=plain)


def _open(url: str, bucket: str, client: "S3Client | None") -> "S3Client":
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        client = client or _client(_environment())
        client.head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: a malformed endpoint
        raise StoreUnusable(url, str(error)) from error
    return client


def _code(error: "ClientError") -> str:
    return error.response["Error"]["Code"]
