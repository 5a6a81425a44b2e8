"""Parses notifications of object stores: AWS, MinIO, Ceph and SeaweedFS, directly, through SNS or EventBridge.

The input is untrusted: records that cannot be parsed are listed, and the others are processed.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_plus
from uuid import uuid4

from pydantic_core import from_json

from deployments.gateway.outbox import Arrival
from deployments.problems import ApiError
from tasks.core.data.file_kinds import is_ready
from tasks.core.data.remarks import shown
from tasks.core.errors import BadKey
from tasks.core.store.base import check_key
from tasks.core.store.documents import digest

CREATED = ("ObjectCreated:", "ObjectSynced:Create")  # of AWS, MinIO and Ceph; the latter on zone synchronisation
WRITTEN = {"create", "update", "rename"}  # of SeaweedFS
SENDERS = {"aws:s3": "aws", "minio:s3": "minio", "ceph:s3": "ceph"}
S3_MARKS = {"version": "versionId", "etag": "eTag", "sequencer": "sequencer", "size": "size"}
EVENT_MARKS = {"version": "version-id", "etag": "etag", "sequencer": "sequencer", "size": "size"}
SEAWEEDFS_ETAG = "Seaweed-X-Amz-ETag"
FORM_ENCODED = re.compile(r"(?:[\w.\-*/+~!'(),:;=@$&]|%[0-9A-Fa-f]{2})*", re.ASCII)
LONGEST_WORD = 100  # characters of untrusted text in a response or a log
MOST_RECORDS = 10_000  # of a body


class NotificationUnusable(ApiError):
    """The body of a request is not a notification of an object store."""

    status = 422
    code = "not_a_notification"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the body is not a notification of uploads: {problem}")


class Write(NamedTuple):
    """What a notification tells of one write: what tells it from other writes, as text, empty where it is not given."""

    bucket: str
    key: str
    version: str = ""
    etag: str = ""
    sequencer: str = ""
    size: str = ""
    time: str = ""

    @property
    def identity(self) -> str:
        """Equal in repeated notifications of this write, and of no other.

        Time and size count only without a version and a sequencer. The time also counts for `_READY`, which is written
        again and again with the same content. Without any of these, each notification counts as a write.
        """
        marks = [self.version, self.etag, self.sequencer]
        if not (self.version or self.sequencer) or is_ready(self.key):
            marks += [self.size, self.time]
        return digest(self.bucket, self.key, *(marks if self.etag or self.time or any(marks[:3]) else [uuid4().hex]))


class StoreLocation(NamedTuple):
    """The location of the store: bucket (empty for a folder, which may be anywhere in a bucket) and prefix."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> "StoreLocation":
        """The location of `s3://bucket/prefix`, or of a folder."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return cls(bucket, f"{prefix.strip('/')}/".lstrip("/")) if url.startswith("s3://") else cls("", "")

    def upload(self, key: str) -> tuple[str, str]:
        """Dataset and name of `<prefix>uploads/<dataset>/<name>`; both are empty for any other key."""
        parts = key.removeprefix(self.prefix).split("/") if key.startswith(self.prefix) else []
        if not self.bucket and "uploads" in parts:
            parts = parts[parts.index("uploads") :]
        match parts:
            case ["uploads", dataset, *folders, name] if name:
                return dataset, "/".join([*folders, name])
        return "", ""


@dataclass
class Reading:
    """The content of a body: arrivals in the store, and descriptions of records that are ignored or can't be parsed."""

    place: StoreLocation
    sender: str = "other"
    arrivals: list[Arrival] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def add(self, name: str, write: Write) -> None:
        """Add a write, if it is an upload to the store."""
        dataset, key = self.place.upload(write.key)
        if not write.key:
            self.bad.append(f"{name}: its key is empty, or not UTF-8")
        elif self.place.bucket not in {"", write.bucket}:
            self.ignored.append(f"{shown(write.key)}: bucket {shown(write.bucket)} is not the store's")
        elif not dataset:
            self.ignored.append(f"{shown(write.key)}: not under uploads/<dataset>/ of the store")
        elif problem := key_problem(write.key):
            self.bad.append(f"{name}: {problem}")
        else:
            content = content_identity(dataset, key, write.etag) if write.etag else ""
            self.arrivals.append(Arrival(dataset, key, write.identity, content, is_ready(key)))

    def add_named(self, name: str, dataset: str, key: str, message: str) -> None:
        """Add an upload that a message with this id names by its dataset and its key there."""
        if "/" in dataset:
            self.bad.append(f"{name}: a dataset's name has no slash")
        elif problem := key_problem(f"uploads/{dataset}/{key}"):
            self.bad.append(f"{name}: {problem}")
        else:
            self.arrivals.append(Arrival(dataset, key, digest(message, dataset, key), ready=is_ready(key)))

    def keep_only(self, datasets: Collection[str] | None) -> None:
        """Ignore uploads to datasets that are not among these; None: these are not known."""
        found, self.arrivals = self.arrivals, list[Arrival]()
        for one in found:
            if datasets is None or one.dataset in datasets:
                self.arrivals.append(one)
            else:
                self.ignored.append(f"{shown(one.dataset)}: no model subscribes to the dataset of {shown(one.key)}")


def content_identity(dataset: str, key: str, etag: str) -> str:
    """The identity of what the gateway itself writes, by which the store's own notification is recognised."""
    return digest("content", dataset, key, etag.strip('"'))


def key_problem(key: str) -> str:
    """Why no object of a store can have this key; empty if one can."""
    try:
        check_key(key)
    except BadKey:
        return f"the key {key[:LONGEST_WORD]!a} is no plain relative path, or too long"
    return ""


def parse(body: bytes | str) -> dict[str, object]:
    """The JSON object of a body; raises NotificationUnusable."""
    try:
        document: object = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotificationUnusable(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise NotificationUnusable("it is not a JSON object")
    return document


def read_notification(document: Mapping[str, object], place: StoreLocation) -> Reading:
    """Read a notification about uploads to the store at `place`; raises NotificationUnusable if it is none."""
    reading = Reading(place)
    match document:
        case {"Event": "s3:TestEvent"}:
            reading.sender = "aws"
            reading.ignored.append("s3:TestEvent")
        case {"Records": list(records)} if len(records) > MOST_RECORDS:
            raise NotificationUnusable(f"it has more than {MOST_RECORDS} records")
        case {"Records": list(records)}:
            for number, record in enumerate(records):
                _record(record, f"record {number}", reading)
        case {"detail-type": str(kind), "detail": dict(detail)}:
            reading.sender = "eventbridge"
            _eventbridge(document, kind, detail, reading)
        case {"event_type": str(kind), "key": str(path)}:
            reading.sender = "seaweedfs"
            _seaweedfs(document, kind, path, reading)
        case _:
            raise NotificationUnusable("it has no Records, and no other known format")
    return reading


def read_message(message: str, document: Mapping[str, object], place: StoreLocation) -> Reading:
    """Read a message of Standard Webhooks with this id; raises NotificationUnusable if it is malformed."""
    reading = Reading(place, "standard")
    match document:
        case {"type": "upload.created", "data": {"dataset": str(dataset), "keys": list(keys)}}:
            if not 0 < len(keys) <= MOST_RECORDS:
                raise NotificationUnusable(f"data.keys has {len(keys)} keys; send 1 to {MOST_RECORDS}")
            for number, key in enumerate(keys):
                reading.add_named(f"key {number}", dataset, key if isinstance(key, str) else "", message)
        case {"type": "upload.created"}:
            raise NotificationUnusable("data has no dataset and keys")
        case {"type": str(kind)}:
            reading.ignored.append(kind[:LONGEST_WORD])
        case _:
            raise NotificationUnusable("it has no type")
    return reading


def _record(record: object, name: str, reading: Reading) -> None:
    """A record of AWS, MinIO or Ceph; one without an event name counts as an upload."""
    document: dict[str, object] = record if isinstance(record, dict) else {}
    source = str(document.get("eventSource"))
    reading.sender = SENDERS.get(source, reading.sender)
    match document:
        case {"eventName": str(event)} if not event.removeprefix("s3:").startswith(CREATED):
            reading.ignored.append(f"{name}: {event[:LONGEST_WORD]}")
        case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}}}:
            raw = source == "ceph:s3" or not FORM_ENCODED.fullmatch(key)
            marks = {mark: _text(item.get(theirs)) for mark, theirs in S3_MARKS.items()}
            time = _text(document.get("eventTime"))
            reading.add(name, Write(bucket, key if raw else _decoded(key), **marks, time=time))
        case _:
            reading.bad.append(f"{name}: it has no s3.bucket.name and s3.object.key")


def _eventbridge(document: Mapping[str, object], kind: str, detail: Mapping[str, object], reading: Reading) -> None:
    """An event of EventBridge; its keys are not encoded."""
    match detail:
        case _ if kind != "Object Created":
            reading.ignored.append(kind[:LONGEST_WORD])
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}}:
            marks = {mark: _text(item.get(theirs)) for mark, theirs in EVENT_MARKS.items()}
            reading.add("detail", Write(bucket, key, **marks, time=_text(document.get("time"))))
        case _:
            reading.bad.append("detail: it has no bucket.name and object.key")


def _seaweedfs(document: Mapping[str, object], kind: str, path: str, reading: Reading) -> None:
    """An event of SeaweedFS' filer about `/buckets/<bucket>/<key>`: it names neither version nor sequencer.

    The message itself may differ in a repeated one, as by the chunks. Parts of an object are written to `.uploads/`
    of the bucket, and the object is created once, from them.
    """
    message = document.get("message")
    entry = message.get("new_entry") if isinstance(message, dict) else None
    match message:
        case {"new_entry": {"is_directory": True} | {"isDirectory": True}}:
            kind = "directory"
        case {"new_parent_path": str(parent), "new_entry": {"name": str(name)}} if kind == "rename":
            path = f"{parent}/{name}"
    match path.split("/", 3):
        case ["", "buckets", bucket, key] if kind in WRITTEN:
            size, time, etag = _of_entry(entry if isinstance(entry, dict) else {})
            reading.add("message", Write(bucket, key, etag=etag, size=size, time=time))
        case _:
            reading.ignored.append(f"{kind[:LONGEST_WORD]} of {path[:LONGEST_WORD]}")


def _of_entry(entry: Mapping[str, object]) -> tuple[str, str, str]:
    """Size, time and ETag of an entry of SeaweedFS' filer; the ETag of one that was not written by S3 is its MD5."""
    found, extended = entry.get("attributes"), entry.get("extended")
    attributes: dict[str, object] = found if isinstance(found, dict) else {}
    etag = _base64(extended.get(SEAWEEDFS_ETAG)).decode("latin-1") if isinstance(extended, dict) else ""
    time = ".".join(filter(None, (_text(attributes.get("mtime")), _text(attributes.get("mtime_ns")))))
    return _text(attributes.get("file_size")), time, etag.strip('"') or _base64(attributes.get("md5")).hex()


def _text(mark: object) -> str:
    """A mark of a write as text; what is missing, or of an odd type, is empty."""
    if isinstance(mark, int):
        return str(mark)
    return mark.strip('"') if isinstance(mark, str) and mark != "null" else ""


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""


def _decoded(key: str) -> str:
    """Decode a form-encoded key; empty if it is not UTF-8."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return ""
