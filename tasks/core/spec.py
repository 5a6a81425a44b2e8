"""What all run specifications share."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen specification that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
