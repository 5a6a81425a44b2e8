"""JSON documents: typed, versioned, and named by the hash of their canonical text.

They live for years: see `tasks.core.config.stored` for what is tolerated when one is read.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from tasks.core.config.stored import STORED, Stored, read_stored
from tasks.core.errors import DocumentInvalid, DocumentNewer
from tasks.core.store import Store

FIELD = "schema_version"
Plain = dict[str, Any]  # a document as JSON has it
Migration = Callable[[Plain], Plain]
MALFORMED = (LookupError, TypeError, AttributeError)  # what a migration raises for something else than a document


def _limited(schema: Plain, latest: int) -> Plain:
    """The schema of a document that refuses later versions."""
    if schema["type"] != "model-fields":
        return schema | {"schema": _limited(schema["schema"], latest)}
    field = schema["fields"][FIELD]
    bounded = field["schema"] | {"schema": core_schema.int_schema(ge=1, le=latest)}
    return schema | {"fields": schema["fields"] | {FIELD: field | {"schema": bounded}}}


class Document(Stored):
    """Base class of everything that is stored as JSON.

    `schema_version` is the major version of a class, 1 unless the class gives the field another default. Only an
    incompatible change raises it: a field that is renamed or means something else, one without a default that comes or
    goes, a narrower limit. A new field with a default, the end of one with a default, and a further choice are
    compatible and raise nothing. A document, also a nested one, with a later version than its class is refused; one
    with an earlier version is brought to it by `migrations`, each a step to the next version, as a plain dictionary
    before it is validated.
    """

    migrations: ClassVar[Mapping[int, Migration]] = {}  # by the version that each begins with
    schema_version: int = 1

    @classmethod
    def current_version(cls) -> int:
        """The version that this class writes, and the latest that it reads."""
        return int(cls.model_fields[FIELD].default)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse a class that lacks a migration from an earlier version."""
        if sorted(cls.migrations) != [*range(1, cls.current_version())]:
            raise TypeError(
                f"{cls.__name__} has version {cls.current_version()}; migrations begin with each earlier one"
            )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema, with a limit for the version; it calls Python only where there are migrations."""
        schema = _limited(cast(Plain, super().__get_pydantic_core_schema__(source, handler)), cls.current_version())
        if not cls.migrations:
            return cast(CoreSchema, schema)
        inner, name = {key: part for key, part in schema.items() if key != "ref"}, schema.get("ref")
        return core_schema.with_info_before_validator_function(cls._migrated, cast(CoreSchema, inner), ref=name)

    @classmethod
    def _migrated(cls, value: Any, info: ValidationInfo) -> Any:
        """A stored document of an earlier version, brought to the current one."""
        version = value.get(FIELD, 1) if isinstance(value, dict) else 0
        if info.context != STORED or not isinstance(version, int) or version < 1:
            return value
        for step in range(version, cls.current_version()):
            try:
                value = cls.migrations[step](dict(value)) | {FIELD: step + 1}
            except MALFORMED as error:
                raise ValueError(f"it cannot be brought from version {step} to {step + 1}: {error!r}") from error
        return value


D = TypeVar("D", bound=Document)


def canonical(value: BaseModel | dict[str, object]) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8: equal values give equal bytes."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(*parts: BaseModel | dict[str, object] | str) -> str:
    """Sixteen hexadecimal digits of the sha256 of all parts; the key of a run or a version."""
    whole = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else canonical(part)
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:16]


def render(document: Document) -> bytes:
    """The document as people read it."""
    return (json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()


def revised(written: bytes, document: Document) -> bytes:
    """A document that replaces one: fields that this version does not know are kept as they were written."""
    plain = json.loads(written) | document.model_dump(mode="json")
    return (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode()


def parse(kind: type[D], data: bytes, key: str) -> D:
    """Read a document that some version of the software has written.

    Raises:
        DocumentNewer: it, or a document in it, has a later version than this software knows.
        DocumentInvalid: it is not one of this kind.
    """
    try:
        return read_stored(kind, data)
    except ValidationError as error:
        raise _newer(error, key) or DocumentInvalid(key, str(error)) from error


def _newer(error: ValidationError, key: str) -> DocumentNewer | None:
    """The first part of a document with a version that is too new."""
    for fault in error.errors(include_url=False, include_input=True):
        *place, name = fault["loc"] or ("",)
        if name == FIELD and fault["type"] == "less_than_equal":
            return DocumentNewer(key, ".".join(map(str, place)), fault["input"], fault["ctx"]["le"])
    return None


def read_document(store: Store, kind: type[D], key: str) -> D:
    """Read a document from the store; raises ObjectMissing or DocumentInvalid."""
    return parse(kind, store.read(key), key)


def read_documents(store: Store, kind: type[D], prefix: str) -> Iterator[D]:
    """All documents of a kind under a prefix, in the order of their keys."""
    for key in store.list(prefix):
        if key.endswith(".json"):
            yield read_document(store, kind, key)
