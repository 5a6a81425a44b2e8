"""What object stores say of their objects: AWS, MinIO, Ceph and SeaweedFS, directly, through SNS, through EventBridge.

All that is read here was sent by somebody else: a part that cannot be read is named and the rest is taken.
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

CREATED = ("ObjectCreated:", "ObjectSynced:Create")  # of AWS, MinIO and Ceph; the latter when zones are synchronised
WRITTEN = {"create", "update", "rename"}  # of SeaweedFS
FORM_ENCODED = re.compile(r"(?:[\w.\-*/+~!'(),:;=@$&]|%[0-9A-Fa-f]{2})*", re.ASCII)
LONGEST_KEY = 1024
LONGEST_WORD = 100  # of a sender's words in an answer or a log


class NotificationUnusable(DyeworksError):
    """A body that was posted to the webhook is no notification of an object store."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the body is no notification of an object store: {problem}")


class Upload(NamedTuple):
    """An object that was written; its identity is that of this very write, and the same when it is told again."""

    bucket: str
    key: str
    identity: str


@dataclass
class Reading:
    """What a body says: uploads, and in words what starts nothing and what is no notification."""

    uploads: list[Upload] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


class StoreLocation(NamedTuple):
    """Where the store lies: its bucket (empty: a folder, which may lie anywhere in one) and its prefix."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> "StoreLocation":
        """The place of `s3://bucket/prefix`, or of a folder."""
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
    """Read a body; raises NotificationUnusable when nothing of it is a notification."""
    reading = Reading()
    _read(_parse(body), reading, wrapped=2)
    return reading


def _parse(body: bytes | str) -> dict[str, object]:
    try:
        told: object = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotificationUnusable(f"it is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise NotificationUnusable("it is no JSON object")
    return told


def _read(told: dict[str, object], reading: Reading, wrapped: int) -> None:
    match told:
        case {"Type": "Notification", "Message": str(message)} if wrapped:
            _read(_parse(message), reading, wrapped - 1)
        case {"Type": "SubscriptionConfirmation" | "UnsubscribeConfirmation" as kind}:
            reading.ignored.append(f"{kind} of {_host(told)}: an operator confirms it, nothing is fetched here")
        case {"Event": "s3:TestEvent"}:
            reading.ignored.append("s3:TestEvent")
        case {"Records": list(records)}:
            for number, record in enumerate(records):
                _record(record, f"record {number}", reading)
        case {"detail-type": str(kind), "detail": dict(detail)}:
            _bridged(told, kind, detail, reading)
        case {"event_type": str(kind), "key": str(path)}:
            _filed(told, kind, path, reading)
        case _:
            raise NotificationUnusable("it has no Records, and is of no other form that is known")


def _record(record: object, name: str, reading: Reading) -> None:
    """A record of AWS, MinIO or Ceph; one without an event's name counts as an upload."""
    told: dict[str, object] = record if isinstance(record, dict) else {}
    match told:
        case {"eventName": str(event)} if not event.removeprefix("s3:").startswith(CREATED):
            reading.ignored.append(f"{name}: {event[:LONGEST_WORD]}")
        case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}}}:
            raw = told.get("eventSource") == "ceph:s3" or not FORM_ENCODED.fullmatch(key)
            marks = [item.get(mark) for mark in ("versionId", "eTag", "sequencer")]
            _take(name, bucket, key if raw else _decoded(key), [*marks, told.get("eventTime")], reading)
        case _:
            reading.bad.append(f"{name}: it has no s3.bucket.name and s3.object.key")


def _bridged(told: Mapping[str, object], kind: str, detail: Mapping[str, object], reading: Reading) -> None:
    """An event of EventBridge; its keys are not encoded."""
    match detail:
        case _ if kind != "Object Created":
            reading.ignored.append(kind[:LONGEST_WORD])
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}}:
            marks = [item.get(mark) for mark in ("version-id", "etag", "sequencer")]
            _take("detail", bucket, key, [*marks, told.get("time")], reading)
        case _:
            reading.bad.append("detail: it has no bucket.name and object.key")


def _filed(told: Mapping[str, object], kind: str, path: str, reading: Reading) -> None:
    """An event of SeaweedFS' filer about `/buckets/<bucket>/<key>`; its identity is the whole message."""
    message = told.get("message")
    match message:
        case {"new_entry": {"is_directory": True} | {"isDirectory": True}}:
            kind = "directory"
        case {"new_parent_path": str(parent), "new_entry": {"name": str(name)}} if kind == "rename":
            path = f"{parent}/{name}"
    match path.split("/", 3):
        case ["", "buckets", bucket, key] if kind in WRITTEN:
            _take("message", bucket, key, [digest(message)] if isinstance(message, dict) else [], reading)
        case _:
            reading.ignored.append(f"{kind[:LONGEST_WORD]} of {path[:LONGEST_WORD]}")


def _take(name: str, bucket: str, key: str, marks: list[object], reading: Reading) -> None:
    """Add an upload; where nothing tells this write from another of the same key, each notification is a new one."""
    if not key or len(key.encode()) > LONGEST_KEY:
        reading.bad.append(f"{name}: its key is no text of 1 to {LONGEST_KEY} bytes")
        return
    known = [mark.strip('"') if isinstance(mark, str) and mark != "null" else "" for mark in marks]
    reading.uploads.append(Upload(bucket, key, digest(bucket, key, *(known if any(known) else [uuid4().hex]))))


def _decoded(key: str) -> str:
    """A form-encoded key; empty where what is encoded is no UTF-8."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return ""


def _host(told: Mapping[str, object]) -> str:
    try:
        return (urlsplit(str(told.get("SubscribeURL", ""))).hostname or "nowhere")[:LONGEST_WORD]
    except ValueError:
        return "nowhere"


def _is_key(name: str) -> bool:
    try:
        check_key(name)
    except BadKey:
        return False
    return True
