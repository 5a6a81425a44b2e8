"""What all run specifications share."""

from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.config.stored import Stored
from tasks.core.errors import SettingError

MOST_BYTES = 2**20  # of a YAML file


class Spec(Stored):
    """A frozen specification that refuses unknown keys, and numbers that JSON has no word for."""

    model_config = ConfigDict(allow_inf_nan=False)


def flat(spec: BaseModel) -> dict[str, str]:
    """Every field as text, that of a nested one under a dotted name."""
    found: dict[str, str] = {}
    for name in type(spec).model_fields:
        value: object = getattr(spec, name)
        found |= (
            {f"{name}.{k}": v for k, v in flat(value).items()} if isinstance(value, BaseModel) else {name: str(value)}
        )
    return found


def differences(before: BaseModel, now: BaseModel) -> list[str]:
    """Each field that has changed, as `rank: 4 -> 8`."""
    old, new = flat(before), flat(now)
    return [f"{name}: {old.get(name)} -> {new.get(name)}" for name in old | new if old.get(name) != new.get(name)]


def require_known(spec: Spec, name: str) -> None:
    """Raise SettingError for a stored specification with a choice that only a later version knows how to carry out."""
    try:
        type(spec).model_validate(spec.model_dump())
    except ValidationError as error:
        raise SettingError(name, f"{explain(error, type(spec))}; choose another, or update dyeworks") from error


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """All faults in words, a misspelt key with the nearest right one."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(str(fault["loc"][-1]), _fields(kind, fault["loc"][:-1]), n=1)
            message = f"unknown key{f', did you mean {near[0]!r}?' if near else ''}"
        faults.append(f"{place}: {message}")
    return "; ".join(faults)


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping in a YAML file; raises SettingError."""
    try:
        if path.exists() and not path.is_file():
            raise SettingError(str(path), "is not a file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise SettingError(str(path), f"has {size:,} bytes, more than {MOST_BYTES:,}")
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except OSError as error:
        raise SettingError(str(path), f"cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date, a number, or no UTF-8
        raise SettingError(str(path), f"is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingError(str(path), "is no mapping of names to values")
    return values


def _fields(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[str(part)].annotation if str(part) in kind.model_fields else None
        choices = (annotation, *get_args(annotation))  # of a section that may be left out
        found = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)]
        if not found:
            return []
        kind = found[0]
    return list(kind.model_fields)
