"""Markdown tables of fields: what each takes, its default, and its meaning."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from tasks.core.config.prompts import PromptSet

Schema = Mapping[str, Any]  # of JSON Schema
MOST = 48  # characters of a list that is shown whole
KINDS = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "object": "a mapping"}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "multipleOf": "multiple of"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; a bar within a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines] + [""]


def code(text: str) -> str:
    """Text as code; nothing for an empty one."""
    return f"`{text}`" if text else ""


def anchor(title: str) -> str:
    """The anchor that a page gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def field_rows(kind: type[BaseModel], above: str = "", but: Collection[str] = ()) -> Iterator[list[str]]:
    """A row for each field, name, default, what it takes and meaning; those of nested specifications are dotted."""
    schema = kind.model_json_schema()
    for name in [name for name in kind.model_fields if name not in but]:
        field = kind.model_fields[name]
        if is_nested(field.annotation):
            yield from field_rows(field.annotation, f"{above}{name}.")  # type: ignore[arg-type]
        else:
            yield [code(above + name), default(field), takes(schema["properties"][name]), meaning(kind, name, field)]


def is_nested(annotation: object) -> bool:
    """Whether a field holds a specification whose own fields are listed in its place."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not PromptSet


def meaning(kind: type[BaseModel], name: str, field: FieldInfo) -> str:
    """The description of a field; every one has one."""
    if not field.description:
        raise ValueError(f"{kind.__name__}.{name} has no description: give its Field one")
    return field.description


def default(field: FieldInfo) -> str:
    """The default of a field as code, `required` where there is none."""
    if field.is_required():
        return "required"
    return shown(field.get_default(call_default_factory=True))


def shown(value: object) -> str:
    """A value as YAML would have it, long lists by their length."""
    if isinstance(value, PromptSet):
        return code(value.version)
    if isinstance(value, SecretStr):
        return code(value.get_secret_value())
    if isinstance(value, tuple):
        whole = f"[{', '.join(map(str, value))}]"
        return code(whole) if len(whole) <= MOST else f"{len(value)} entries"
    if isinstance(value, bool):
        return code(json.dumps(value))
    if isinstance(value, float):
        return code(f"{value:.4g}" if value < 1e6 else f"{value:,}")
    return "" if value is None or isinstance(value, BaseModel) else code(str(value))


def takes(schema: Schema) -> str:
    """What a field takes, with its limits."""
    if "enum" in schema:
        return ", ".join(code(choice) for choice in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(takes(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "$ref" in schema:
        return reference(schema["$ref"].rpartition("/")[2])
    if schema.get("type") == "array":
        return f"list: {takes(schema.get('items', {}))}"
    kind = "path" if schema.get("format") == "path" else KINDS[schema["type"]]
    limits = [f"{sign} {schema[key]:,}" for key, sign in LIMITS.items() if key in schema]
    if "maxLength" in schema:
        limits.append(f"of at most {schema['maxLength']} characters")
    return ", ".join([" ".join([kind, *limits[:1]]), *limits[1:]])


def reference(name: str) -> str:
    """A specification by the link to its section."""
    if name == PromptSet.__name__:
        return "a set"
    section = name.removesuffix("Spec").lower()
    return f"[`{section}`](#{section})"
