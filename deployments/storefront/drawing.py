"""From a request of the API to pictures: what a name stands for, orders for the engine, lines of the prompt log."""

import asyncio
import dataclasses
import logging
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from deployments.problems import ApiError
from deployments.storefront.bodies import MOST_PICTURES, ImageRequest
from deployments.storefront.door import Visitor
from deployments.storefront.errors import (
    RELEASE_FAULTS,
    FieldInvalid,
    ModelNotFound,
    PicturesFlagged,
    RenderUnavailable,
)
from deployments.storefront.feedback import ServedPicture
from deployments.storefront.metrics import Metrics
from deployments.storefront.render_queue import RenderedPicture, RenderOrder, Served
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig, parse_size
from tasks.core.models.marks import Mark
from tasks.core.traffic.prompt_log import PromptLine, hash_session
from tasks.core.traffic.redaction import redact

if TYPE_CHECKING:  # they import torch, which takes seconds: the page is shown before
    from deployments.storefront.engine import Engine
    from deployments.storefront.mirror import Mirror
    from deployments.storefront.served_model import ServedModel

log = logging.getLogger("dyeworks.storefront")
BASE = "-base"  # behind a model's name: its base without an adapter


@dataclass(frozen=True)
class Drawing:
    """A picture of a request, with what its file says, and the seconds of its batch."""

    image: Image.Image
    mark: Mark
    seconds: float
    flagged: bool


@dataclass(frozen=True)
class Asked:
    """What the name of a model stands for: `served` None is the champion."""

    model: "ServedModel"
    served: Served | None


@dataclass(frozen=True)
class Origin:
    """Where a request comes from: its id, who sent it, how often their client had sent it before, and when it began."""

    request_id: str
    visitor: Visitor
    retry: int = 0
    began: float = dataclasses.field(default_factory=time.perf_counter)


class Drawings:
    """Draws for the models of one base; `models` are by name."""

    def __init__(
        self, settings: Settings, models: "dict[str, ServedModel]", engine: "Engine", mirror: "Mirror", metrics: Metrics
    ) -> None:
        self.settings, self.models, self.engine, self.mirror, self.metrics = settings, models, engine, mirror, metrics
        self.aliases = parse_aliases(settings.model_aliases)
        self.fetching = ThreadPoolExecutor(2, "fetching")  # of its own: a store that hangs must not block others

    def find(self, name: str | None) -> Asked:
        """What a name stands for: that of a model, with @GENERATION, @RELEASE or -base behind it, or an alias.

        Raises:
            FieldInvalid: none is named, and there are several.
            ModelNotFound: it stands for nothing.
        """
        if not name:
            if len(self.models) > 1:
                raise FieldInvalid("model", f"name one of {', '.join(self.models)}")
            return Asked(next(iter(self.models.values())), None)
        asked = self.aliases.get(name, name)
        if asked in self.models:
            return Asked(self.models[asked], None)
        if asked.endswith(BASE) and (model := self.models.get(asked.removesuffix(BASE))):
            return Asked(model, Served())
        base, _, version = asked.partition("@")
        if version and (model := self.models.get(base)):
            return Asked(model, model.find(version, name))
        raise ModelNotFound(name, ", ".join(self.models))

    def orders(self, request: ImageRequest, asked: Asked) -> list[RenderOrder]:
        """What is to be rendered for a request; whatever speaks against it is found before it counts against a limit.

        Raises:
            FieldInvalid: the model doesn't offer this size or number of steps.
            RenderUnavailable, QueueFull: not now.
        """
        orders = self._orders(request, asked)
        if asked.model.not_ready and not asked.served:
            raise RenderUnavailable(asked.model.not_ready)
        self.engine.require_room(asked.model.name, len(orders))
        return orders

    async def generate(self, orders: list[RenderOrder], asked: Asked, origin: Origin) -> list[Drawing]:
        """Render the pictures of a request, and log them before they are returned.

        Raises:
            RenderUnavailable, QueueFull, ReleaseUnavailable: not now.
            PicturesFlagged: none of them may be shown.
        """
        model = asked.model
        if asked.served and asked.served.release and not self.mirror.holds(model.name, asked.served.release):
            await self._fetch(model, asked.served)
        try:
            pictures = await self._render(orders)
        except ApiError as error:
            self._count(model, asked.served, model.follower.served, error.code, len(orders))
            raise
        numbered = enumerate(zip(orders, pictures, strict=True))
        made = [self._log(origin, model, order, picture, number) for number, (order, picture) in numbered]
        if all(drawing.flagged for drawing in made):
            raise PicturesFlagged
        return made

    def _orders(self, request: ImageRequest, asked: Asked) -> list[RenderOrder]:
        config = asked.model.config
        width, height = self._size(request.size, config)
        if request.steps and request.steps > config.serving.most_steps:
            raise FieldInvalid("steps", f"at most {config.serving.most_steps} for {config.name}")
        seed = request.seed if request.seed is not None else random.randrange(2**32 - MOST_PICTURES)
        order = RenderOrder(
            model=config.name,
            served=asked.served,
            prompt=request.prompt,
            negative=request.negative_prompt or "",
            seed=seed,
            width=width,
            height=height,
            steps=request.steps or config.serving.steps,
            guidance=request.guidance or config.serving.guidance,
        )
        return [dataclasses.replace(order, seed=seed + number) for number in range(request.n or 1)]

    def _size(self, asked: str | None, config: ModelConfig) -> tuple[int, int]:
        own = self.engine.own_size
        if asked in (None, "auto"):
            return own
        offered = {own, *filter(None, map(parse_size, config.serving.sizes))}
        if (found := parse_size(str(asked))) in offered and found:
            return found
        names = ", ".join(f"{width}x{height}" for width, height in sorted(offered))
        raise FieldInvalid("size", f"{config.name} draws auto, {names}")

    async def _fetch(self, model: "ServedModel", served: Served) -> None:
        """Fetch a release before its pictures wait for the engine, which never waits for the store."""
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self.fetching, self.mirror.release, model.name, served.release)
        except RELEASE_FAULTS as error:
            log.error("%s of %s cannot be drawn by: %s", served, model.name, error)
            name = f"{model.name}@{served.generation or served.release}"
            raise ModelNotFound(name, "this one is damaged, or gone") from error
        except Exception as error:  # any error of a store's client
            log.error("release %s of %s cannot be fetched: %s", served.release, model.name, error)
            raise RenderUnavailable("this release is not here, and cannot be fetched now") from error

    async def _render(self, orders: list[RenderOrder]) -> list[RenderedPicture]:
        """The pictures; if one fails or the request is cancelled, the others are cancelled."""
        futures = self.engine.submit(orders)
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        finally:
            _cancel(futures)

    def _log(
        self, origin: Origin, model: "ServedModel", order: RenderOrder, picture: RenderedPicture, number: int
    ) -> Drawing:
        """Log a picture, and remember it for votes."""
        served, picture_id = picture.served, f"{origin.request_id}-{number}"
        session, voter = self._hash(origin.visitor.session), self._hash(origin.visitor.voter)
        line = PromptLine(
            request_id=picture_id,
            model=model.name,
            time=clock.now(),
            prompt=redact(order.prompt),
            seed=order.seed,
            size=picture.image.width,
            steps=order.steps,
            release=served.release or "base",
            adapter=served.release,
            latency_s=round(time.perf_counter() - origin.began, 3),
            flagged=picture.flagged,
            session=session,
            picture=number,
            retry=origin.retry,
        )
        model.prompts.add(line)
        model.feedback.remember(picture_id, ServedPicture(served.release, served.generation, session, voter))
        self._count(model, order.served, served, "flagged" if picture.flagged else "rendered", 1)
        mark = Mark(model.name, served.generation, served.release, order.seed, picture_id)
        return Drawing(picture.image, mark, picture.seconds, picture.flagged)

    def _count(self, model: "ServedModel", asked: Served | None, served: Served, outcome: str, number: int) -> None:
        route = "champion" if asked is None else "named"
        self.metrics.images.labels(model.name, model.kind_of(asked or served), route, outcome).inc(number)

    def _hash(self, session: str) -> str:
        return hash_session(session, self.settings.session_key.get_secret_value())


def parse_aliases(text: str) -> dict[str, str]:
    """Other names of models: `gpt-image-1=adire, dall-e-3=adire`."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {alias.strip(): name.strip() for alias, _, name in pairs}


def _cancel(futures: "list[Future[RenderedPicture]]") -> None:
    for future in futures:
        future.cancel()
