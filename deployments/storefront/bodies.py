"""Bodies of the API: OpenAI's images API with our own fields; what is not served is refused, nothing is ignored."""

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LONGEST = 400  # maximum number of characters of a prompt
MOST_PICTURES = 10  # of a request
INVISIBLE = "\u115f\u1160\u2800"  # letters and symbols by category that are invisible; NFKC maps others to these


def _visible(prompt: str) -> str:
    """Require a visible character."""
    if not any(map(_is_visible, unicodedata.normalize("NFKC", prompt))):
        raise ValueError("it has no letter, digit or symbol: describe what the picture should show")
    return prompt


Prompt = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_visible)]


class ImageRequest(BaseModel):
    """A request for pictures. Fields of OpenAI that can't be served accept only the value that changes nothing."""

    model_config = ConfigDict(extra="forbid")

    prompt: Prompt = Field(description="What to draw; needs a visible character.")
    model: str | None = Field(
        None, max_length=120, description="NAME (its champion), NAME@GENERATION, NAME@RELEASE, NAME-base or an alias."
    )
    n: int | None = Field(None, ge=1, le=MOST_PICTURES, description="Pictures; the seeds follow one another.")
    size: str | None = Field(None, max_length=20, description="WxH as the model offers it, or auto.")
    response_format: Literal["b64_json"] | None = Field(None, description="Pictures come in the response.")
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="png by default.")
    output_compression: int | None = Field(None, ge=1, le=100, description="Quality of jpeg and webp.")
    user: str | None = Field(None, max_length=200, description="Visitor's session; only its keyed hash is logged.")
    seed: int | None = Field(None, ge=0, lt=2**32 - MOST_PICTURES, description="Random by default.")
    steps: int | None = Field(None, ge=1, le=100, description="Denoising steps; those of the model by default.")
    guidance: float | None = Field(
        None, ge=1, le=30, allow_inf_nan=False, description="Guidance scale; that of the model by default."
    )
    negative_prompt: str | None = Field(None, max_length=LONGEST, description="What not to draw.")
    quality: Literal["auto"] | None = Field(None, description="Refused but for auto: `steps` is what changes it.")
    background: Literal["auto", "opaque"] | None = Field(None, description="Pictures are opaque.")
    moderation: Literal["auto"] | None = Field(None, description="It is the model's configuration that decides.")
    style: None = Field(None, description="Refused: the model has its style.")
    stream: Literal[False] | None = Field(None, description="Refused but for false.")
    partial_images: Literal[0] | None = Field(None, description="Refused but for 0.")


class FeedbackRequest(BaseModel):
    """A vote on a rendered picture."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=100, description="The id of the picture, from the response that it came in.")
    liked: bool = Field(strict=True, description="Whether they like it.")


class ImageData(BaseModel):
    """One picture, and what rendered it."""

    b64_json: str
    id: str = Field(description="For feedback.")
    seed: int
    model: str
    generation: int = Field(description="0: never promoted, as the bare base.")
    release: str = Field(description="base: the bare base.")


class ImagesResponse(BaseModel):
    """Pictures in the order of their seeds."""

    created: int = Field(description="Unix time.")
    data: list[ImageData]
    size: str
    output_format: str
    background: Literal["opaque"] = "opaque"
    flagged: int = Field(0, description="Pictures that the safety checker has flagged, and that are left out.")


class ModelCard(BaseModel):
    """A name that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time of the promotion; 0: never.")
    owned_by: str = "dyeworks"
    generation: int
    release: str


class ModelList(BaseModel):
    """The champions, their bases, and the generations that can be asked for."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def _is_visible(character: str) -> bool:
    """A letter, number, punctuation mark or symbol; no space, mark, control or format character."""
    return unicodedata.category(character)[0] in "LNPS" and character not in INVISIBLE
