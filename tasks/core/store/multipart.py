"""A large file as one S3 object, in parts: what an upload that was cut off has sent is not sent again."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_BYTES = 64 * 2**20  # also the size above which a file is sent in parts
MOST_PARTS = 10_000  # of one object, by S3


@dataclass(frozen=True)
class Part:
    """A stretch of a file; parts are counted from 1."""

    number: int
    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """The stretch."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def upload(client: "S3Client", bucket: str, name: str, path: Path, part_bytes: int) -> None:
    """Send a file in parts, or the rest of them; uploads of this object that are of other content are ended."""
    parts = _parts(path, part_bytes)
    upload_id, tags = _begun(client, bucket, name, parts)
    for part in parts:
        if part.number not in tags:
            sent = client.upload_part(
                Bucket=bucket, Key=name, UploadId=upload_id, PartNumber=part.number, Body=part.read()
            )
            tags[part.number] = sent["ETag"]
    client.complete_multipart_upload(
        Bucket=bucket,
        Key=name,
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": p.number, "ETag": tags[p.number]} for p in parts]},
    )


def _parts(path: Path, part_bytes: int) -> list[Part]:
    size = path.stat().st_size
    step = max(part_bytes, -(-size // MOST_PARTS))
    return [Part(i + 1, path, at, min(step, size - at)) for i, at in enumerate(range(0, size, step))]


def _begun(client: "S3Client", bucket: str, name: str, parts: list[Part]) -> tuple[str, dict[int, str]]:
    """The upload to go on with, and the tags of its parts by number."""
    found: tuple[str, dict[int, str]] | None = None
    for upload_id in _uploads(client, bucket, name):
        tags = None if found else _sent(client, bucket, name, upload_id, parts)
        if tags is None:
            client.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=upload_id)
        else:
            found = upload_id, tags
    return found or (client.create_multipart_upload(Bucket=bucket, Key=name)["UploadId"], {})


def _uploads(client: "S3Client", bucket: str, name: str) -> Iterator[str]:
    """Uploads of this object that were never ended."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=name):
        yield from (one["UploadId"] for one in page.get("Uploads", []) if one["Key"] == name)


def _sent(client: "S3Client", bucket: str, name: str, upload_id: str, parts: list[Part]) -> dict[int, str] | None:
    """The tags of the parts that an upload has; None when one of them is of other content.

    A part's tag is its MD5 on all known stores but where the store encrypts it; there nothing is gone on with.
    """
    tags = {}
    planned = {part.number: part for part in parts}
    pages = client.get_paginator("list_parts").paginate(Bucket=bucket, Key=name, UploadId=upload_id)
    for one in (one for page in pages for one in page.get("Parts", [])):
        part = planned.get(one["PartNumber"])
        if part is None or part.length != one["Size"] or one["ETag"].strip('"') != _md5(part):
            return None
        tags[part.number] = one["ETag"]
    return tags


def _md5(part: Part) -> str:
    return hashlib.md5(part.read(), usedforsecurity=False).hexdigest()
