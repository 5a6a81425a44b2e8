"""Request bodies of the API: a picture, and a vote on one."""

import unicodedata

from pydantic import BaseModel, ConfigDict, Field, field_validator

LONGEST = 400  # maximum number of characters of a prompt
INVISIBLE = "\u115f\u1160\u2800"  # letters and symbols by category that are invisible; NFKC maps others to these


class RenderRequest(BaseModel):
    """A request for a picture."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=LONGEST, description="What to draw; needs a visible character.")
    seed: int | None = Field(None, ge=0, lt=2**32)
    steps: int | None = Field(None, ge=1, le=100, description="Denoising steps; those of the model by default.")
    session: str = Field("", max_length=200, description="Visitor's session; only its keyed hash is logged.")

    @field_validator("prompt")
    @classmethod
    def _visible(cls, prompt: str) -> str:
        if not any(map(_is_visible, unicodedata.normalize("NFKC", prompt))):
            raise ValueError("it has no letter, digit or symbol: describe what the picture should show")
        return prompt


class FeedbackRequest(BaseModel):
    """A vote on a rendered picture."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(max_length=100, description="The X-Request-Id of the picture.")
    liked: bool = Field(description="Whether they like it.")


def _is_visible(character: str) -> bool:
    """A letter, number, punctuation mark or symbol; no space, mark, control or format character."""
    return unicodedata.category(character)[0] in "LNPS" and character not in INVISIBLE
