"""JSON documents: typed, versioned, and named by the hash of their canonical text."""

import hashlib
import json
from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import DocumentInvalid
from tasks.core.store import Store


class Document(BaseModel):
    """Base class of everything that is stored as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: int = 1


D = TypeVar("D", bound=Document)


def canonical(value: BaseModel | dict[str, object]) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8: equal values give equal bytes."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(*parts: BaseModel | dict[str, object] | str) -> str:
    """Sixteen hexadecimal digits of the sha256 of all parts; the key of a run or a version."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else canonical(part)
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:16]


def render(document: Document) -> bytes:
    """The document as people read it."""
    return (json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()


def parse(kind: type[D], data: bytes, key: str) -> D:
    """Read a document; raises DocumentInvalid when it is not one of this kind."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise DocumentInvalid(key, str(error)) from error


def read_document(store: Store, kind: type[D], key: str) -> D:
    """Read a document from the store; raises ObjectMissing or DocumentInvalid."""
    return parse(kind, store.read(key), key)


def read_documents(store: Store, kind: type[D], prefix: str) -> Iterator[D]:
    """All documents of a kind under a prefix, in the order of their keys."""
    for key in store.list(prefix):
        if key.endswith(".json"):
            yield read_document(store, kind, key)
