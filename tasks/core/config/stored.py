"""What is written now is read for years: by later versions of the software, and by earlier ones.

What a person writes, and what the code constructs, is validated strictly. What is read from the store is read
tolerantly, at every depth: fields that this version does not know are ignored, missing ones have their defaults, and a
value that is not among the choices of a field is read as it is.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

STORED = "read from the store"  # the validation context of a tolerant reading
ALIEN = ("metadata", "serialization", "default", "config")  # parts of a schema that are no schemas
CHOICES = "dyeworks_choices"  # marks a schema of choices that is tolerant already


def _tolerant(schema: object) -> object:
    """The schema with each set of choices replaced by a tolerant one."""
    if isinstance(schema, list | tuple):
        parts = [_tolerant(part) for part in schema]
        changed = any(new is not old for new, old in zip(parts, schema, strict=True))
        return type(schema)(parts) if changed else schema
    if not isinstance(schema, dict) or CHOICES in (schema.get("metadata") or {}):
        return schema
    if _is_choice(schema):
        return _choice(cast(core_schema.LiteralSchema, schema))
    alien = ALIEN if isinstance(schema.get("type"), str) else ()  # else it holds fields by their names
    fresh = {key: part if key in alien else _tolerant(part) for key, part in schema.items()}
    return fresh if any(fresh[key] is not part for key, part in schema.items()) else schema


def _is_choice(schema: Mapping[str, Any]) -> bool:
    """Whether it lets several texts pass; a single one names a layout, and another layout cannot be read."""
    found = schema.get("expected")
    return (
        schema.get("type") == "literal"
        and isinstance(found, list)
        and len(found) > 1
        and all(isinstance(v, str) for v in found)
    )


def _choice(known: core_schema.LiteralSchema) -> CoreSchema:
    """The known choices first, without a call of Python; then any other text, if it was stored."""
    *some, last = map(repr, known["expected"])
    expected = f"{', '.join(some)} or {last}"

    def unknown(value: Any, info: ValidationInfo) -> str:
        if info.context == STORED and isinstance(value, str):
            return value
        raise PydanticKnownError("literal_error", {"expected": expected})

    def describe(_: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(known)

    return core_schema.union_schema(
        [known, core_schema.with_info_plain_validator_function(unknown)],
        mode="left_to_right",
        custom_error_type="literal_error",
        custom_error_context={"expected": expected},
        serialization=core_schema.simple_ser_schema("any"),
        metadata={CHOICES: True, "pydantic_js_functions": [describe]},
    )


class Stored(BaseModel):
    """Base class of everything that is stored, or part of something that is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema, in which a choice that is unknown here passes if it was read from the store."""
        return cast(CoreSchema, _tolerant(handler(source)))


S = TypeVar("S", bound=Stored)


def read_stored(kind: type[S], data: bytes | str) -> S:
    """Read what some version of the software has written; raises ValidationError."""
    return kind.model_validate_json(data, extra="ignore", context=STORED)
