"""What the page offers at this moment: models, their generations, sizes and examples, and how long a picture waits."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from deployments.storefront.door import Visitor, allows
from deployments.storefront.drawing import BASE

if TYPE_CHECKING:  # they import torch
    from deployments.storefront.served_model import ServedModel
    from deployments.storefront.service import StorefrontService

EXAMPLES = 5
GENERATIONS = 30  # the newest ones
OPENING = "The storefront is opening; this takes some seconds."
KEY_NEEDED = "The models of this storefront need an API key; ask its operator for one, and draw by the API."


class GenerationOffer(BaseModel):
    """A generation, and why it was promoted; both texts are empty where the ledger does not say."""

    name: str = Field(description="As it is asked for; that of generation 0, the bare base, ends in -base.")
    generation: int
    promoted: str = Field("", description="Date, as in 2026-01-31.")
    reason: str = ""


class ModelOffer(BaseModel):
    """A model that the page draws with."""

    name: str
    about: str = Field(description="What it draws, in a few words.")
    trigger: str
    generation: int = Field(description="Of the champion; 0: the bare base.")
    problem: str = Field(description="Why it can't draw now; empty when it can.")
    sizes: list[str] = Field(description="The base's own first; empty until the base is loaded.")
    examples: list[str]
    generations: list[GenerationOffer] = Field(description="Newest first, the bare base last.")


class Offers(BaseModel):
    """All that the page needs to know; it asks again."""

    problem: str = Field("", description="Why nothing can be drawn now; empty when something can.")
    models: list[ModelOffer] = []
    waiting: int = Field(0, description="Pictures that wait, or are being drawn.")
    seconds: int = Field(0, description="Until they are drawn, by the measured rate.")


def offers_of(service: "StorefrontService", visitor: Visitor) -> Offers:
    """What this visitor may draw with."""
    engine = service.engine
    served = [model for model in service.models.values() if allows(visitor.key, model.config, "render", page=True)]
    models = [_model(model, engine.own_size) for model in served]
    problems = [model.problem for model in models]
    problem = engine.not_ready or ("; ".join(problems) if all(problems) else "") if models else KEY_NEEDED
    waiting, seconds = len(engine.queue) + engine.running, math.ceil(engine.wait_seconds)
    return Offers(problem=problem, models=models, waiting=waiting, seconds=seconds)


def _model(model: "ServedModel", own_size: tuple[int, int]) -> ModelOffer:
    config = model.config
    prompts = config.preset.evaluation.prompts.filled("trigger", config.trigger)
    own = ["{}x{}".format(*own_size)] if all(own_size) else []
    return ModelOffer(
        name=model.name,
        about=config.class_noun,
        trigger=config.trigger,
        generation=model.follower.served.generation if model.follower.served.release else 0,
        problem=model.not_ready,
        sizes=[*own, *(size for size in config.serving.sizes if size not in own)] if own else [],
        examples=list(prompts[:: max(1, len(prompts) // EXAMPLES)][:EXAMPLES]),
        generations=[*_generations(model), GenerationOffer(name=f"{model.name}{BASE}", generation=0)],
    )


def _generations(model: "ServedModel") -> Iterator[GenerationOffer]:
    catalogue = model.catalogue
    drawable = sorted((number for number, release in catalogue.releases.items() if release), reverse=True)
    for number in drawable[:GENERATIONS]:
        yield GenerationOffer(
            name=f"{model.name}@{number}",
            generation=number,
            promoted=catalogue.times[number].date().isoformat(),
            reason=catalogue.reasons.get(number, ""),
        )
