"""Parses notifications of object stores: AWS, MinIO, Ceph and SeaweedFS, directly, through SNS or EventBridge.

The input is untrusted: records that cannot be parsed are listed, and the others are processed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_plus, urlsplit
from uuid import uuid4

from pydantic_core import from_json

from tasks.core.errors import BadKey, DyeworksError
from tasks.core.store.base import check_key
from tasks.core.store.documents import digest

CREATED = ("ObjectCreated:", "ObjectSynced:Create")  # of AWS, MinIO and Ceph; the latter on zone synchronisation
WRITTEN = {"create", "update", "rename"}  # of SeaweedFS
FORM_ENCODED = re.compile(r"(?:[\w.\-*/+~!'(),:;=@$&]|%[0-9A-Fa-f]{2})*", re.ASCII)
LONGEST_KEY = 1024
LONGEST_WORD = 100  # characters of untrusted text in a response or a log


class NotificationUnusable(DyeworksError):
    """The body of a request is not a notification of an object store."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the body is not a notification of an object store: {problem}")


class Upload(NamedTuple):
    """An object that was written; its identity is unique to this write, and equal in duplicate notifications."""

    bucket: str
    key: str
    identity: str


@dataclass
class Reading:
    """The content of a body: uploads, and descriptions of records that are ignored or cannot be parsed."""

    uploads: list[Upload] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


class StoreLocation(NamedTuple):
    """The location of the store: bucket (empty for a folder, which may be anywhere in a bucket) and prefix."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> "StoreLocation":
        """The location of `s3://bucket/prefix`, or of a folder."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return cls(bucket, f"{prefix.strip('/')}/".lstrip("/")) if url.startswith("s3://") else cls("", "")

    def dataset(self, key: str) -> str:
        """The dataset of `<prefix>uploads/<dataset>/<file>`; empty for any other key."""
        parts = key.removeprefix(self.prefix).split("/") if key.startswith(self.prefix) else []
        if not self.bucket and "uploads" in parts:
            parts = parts[parts.index("uploads") :]
        match parts:
            case ["uploads", dataset, *_, name] if name and dataset.isprintable():
                return dataset if _is_key(dataset) else ""
        return ""


def read_notification(body: bytes) -> Reading:
    """Parse a body; raises NotificationUnusable if it is not a notification."""
    reading = Reading()
    _read(_parse(body), reading, nesting=2)
    return reading


def _parse(body: bytes | str) -> dict[str, object]:
    try:
        document: object = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotificationUnusable(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise NotificationUnusable("it is not a JSON object")
    return document


def _read(document: dict[str, object], reading: Reading, nesting: int) -> None:
    match document:
        case {"Type": "Notification", "Message": str(message)} if nesting:
            _read(_parse(message), reading, nesting - 1)
        case {"Type": "SubscriptionConfirmation" | "UnsubscribeConfirmation" as kind}:
            reading.ignored.append(f"{kind} of {_host(document)}: it must be confirmed by an operator")
        case {"Event": "s3:TestEvent"}:
            reading.ignored.append("s3:TestEvent")
        case {"Records": list(records)}:
            for number, record in enumerate(records):
                _record(record, f"record {number}", reading)
        case {"detail-type": str(kind), "detail": dict(detail)}:
            _eventbridge(document, kind, detail, reading)
        case {"event_type": str(kind), "key": str(path)}:
            _seaweedfs(document, kind, path, reading)
        case _:
            raise NotificationUnusable("it has no Records, and no other known format")


def _record(record: object, name: str, reading: Reading) -> None:
    """A record of AWS, MinIO or Ceph; one without an event name counts as an upload."""
    document: dict[str, object] = record if isinstance(record, dict) else {}
    match document:
        case {"eventName": str(event)} if not event.removeprefix("s3:").startswith(CREATED):
            reading.ignored.append(f"{name}: {event[:LONGEST_WORD]}")
        case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}}}:
            raw = document.get("eventSource") == "ceph:s3" or not FORM_ENCODED.fullmatch(key)
            marks = [item.get(mark) for mark in ("versionId", "eTag", "sequencer")]
            _add_upload(name, bucket, key if raw else _decoded(key), [*marks, document.get("eventTime")], reading)
        case _:
            reading.bad.append(f"{name}: it has no s3.bucket.name and s3.object.key")


def _eventbridge(document: Mapping[str, object], kind: str, detail: Mapping[str, object], reading: Reading) -> None:
    """An event of EventBridge; its keys are not encoded."""
    match detail:
        case _ if kind != "Object Created":
            reading.ignored.append(kind[:LONGEST_WORD])
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}}:
            marks = [item.get(mark) for mark in ("version-id", "etag", "sequencer")]
            _add_upload("detail", bucket, key, [*marks, document.get("time")], reading)
        case _:
            reading.bad.append("detail: it has no bucket.name and object.key")


def _seaweedfs(document: Mapping[str, object], kind: str, path: str, reading: Reading) -> None:
    """An event of SeaweedFS' filer about `/buckets/<bucket>/<key>`; its identity is the whole message."""
    message = document.get("message")
    match message:
        case {"new_entry": {"is_directory": True} | {"isDirectory": True}}:
            kind = "directory"
        case {"new_parent_path": str(parent), "new_entry": {"name": str(name)}} if kind == "rename":
            path = f"{parent}/{name}"
    match path.split("/", 3):
        case ["", "buckets", bucket, key] if kind in WRITTEN:
            _add_upload("message", bucket, key, [digest(message)] if isinstance(message, dict) else [], reading)
        case _:
            reading.ignored.append(f"{kind[:LONGEST_WORD]} of {path[:LONGEST_WORD]}")


def _add_upload(name: str, bucket: str, key: str, marks: list[object], reading: Reading) -> None:
    """Add an upload; without any version mark each notification counts as a new write."""
    if not key or len(key.encode()) > LONGEST_KEY:
        reading.bad.append(f"{name}: its key is not a text of 1 to {LONGEST_KEY} bytes")
        return
    known = [mark.strip('"') if isinstance(mark, str) and mark != "null" else "" for mark in marks]
    reading.uploads.append(Upload(bucket, key, digest(bucket, key, *(known if any(known) else [uuid4().hex]))))


def _decoded(key: str) -> str:
    """Decode a form-encoded key; empty if it is not UTF-8."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return ""


def _host(document: Mapping[str, object]) -> str:
    try:
        return (urlsplit(str(document.get("SubscribeURL", ""))).hostname or "unknown host")[:LONGEST_WORD]
    except ValueError:
        return "unknown host"


def _is_key(name: str) -> bool:
    try:
        check_key(name)
    except BadKey:
        return False
    return True
