"""What all run specifications share."""

from pydantic import BaseModel, ConfigDict


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
