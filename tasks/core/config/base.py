"""What all run specifications share."""

from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict, ValidationError


class Spec(BaseModel):
    """A frozen specification that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


def _fields(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[str(part)].annotation if str(part) in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        kind = annotation
    return list(kind.model_fields)
