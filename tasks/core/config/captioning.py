"""How pictures without a caption get one from a vision model."""

import string
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from tasks.core.config.base import Spec

PROMPT = (
    "Describe this picture in one plain English sentence: its motif, its colours and its composition. "
    "Name no people, guess at nothing that cannot be seen, and write the sentence alone."
)
FIELDS = frozenset({"caption", "trigger"})  # of a template


def _url(text: str) -> str:
    """Require a base URL; a password in it would be stored with the model's configuration."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be the base of an API, as http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must have no user, query or fragment; the key is DYEWORKS_CAPTION_KEY")
    return text.rstrip("/")


def _template(text: str) -> str:
    """Require a line with {caption}, and with no other field than {trigger}."""
    try:
        fields = [(name, spec, kind) for _, name, spec, kind in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ValueError(f"is no template: {error}") from error
    if {name for name, *_ in fields} - FIELDS or any(spec or kind for _, spec, kind in fields):
        raise ValueError("may hold {caption} and {trigger} alone")
    if "caption" not in {name for name, *_ in fields} or not text.isprintable():
        raise ValueError("must be one line that holds {caption}")
    return text


def _prompt(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


class CaptioningSpec(Spec):
    """Captions that a vision model makes; its key is `DYEWORKS_CAPTION_KEY`."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="Base of an OpenAI-compatible API, which pictures are sent to: `http://127.0.0.1:8000/v1`."
    )
    model: str = Field(min_length=1, max_length=200, description="The vision model, as the server names it.")
    prompt: Annotated[str, AfterValidator(_prompt)] = Field(
        PROMPT, max_length=4000, description="What the model is asked about each picture."
    )
    template: Annotated[str, AfterValidator(_template)] = Field(
        "{caption}, in {trigger}",
        max_length=400,
        description="What becomes of a caption that lacks the trigger; its full stop is dropped before.",
    )
    max_tokens: int = Field(
        150, ge=8, le=4096, description="Length of an answer; one that is cut off there is not used."
    )
    side: int = Field(
        768,
        ge=64,
        le=4096,
        description="Longer side, in pixels, that pictures are scaled down to before they are sent.",
    )
    concurrency: int = Field(4, ge=1, le=32, description="Pictures that are asked about at once.")
    attempts: int = Field(3, ge=1, le=10, description="How often a picture is asked about in an ingest, at most.")
    timeout: float = Field(60.0, gt=0, le=3600, description="Seconds of an attempt.")
    longest: float = Field(
        3600.0,
        gt=0,
        le=6000,
        description="Seconds that an ingest asks for; the pictures that are left wait for the next.",
    )
    most_pictures: int = Field(1000, ge=1, description="Pictures that an ingest asks about; the others wait likewise.")
    required: bool = Field(
        False, description="Whether a server that cannot be used ends the ingest; else it goes on without its captions."
    )
    price_in: float | None = Field(None, ge=0, description="Price of a million input tokens, to count the cost.")
    price_out: float | None = Field(None, ge=0, description="Price of a million output tokens, in the same money.")

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price_in and price_out: give both, or none")
        return self

    def joined(self, caption: str, trigger: str) -> str:
        """The caption with the trigger in it."""
        if trigger.casefold() in caption.casefold():
            return caption
        return self.template.format(caption=caption.rstrip(" ."), trigger=trigger)
