"""OpenAI's images API (https://platform.openai.com/docs/api-reference/images), with what made each picture.

`POST /v1/images/generations`, `POST /v1/images/feedback`, `GET /v1/models`.
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response

from deployments.storefront.bodies import FeedbackRequest, ImageData, ImageRequest, ImagesResponse, ModelCard, ModelList
from deployments.storefront.door import Door
from deployments.storefront.drawing import BASE, Asked, Drawing, Origin
from deployments.storefront.errors import FieldInvalid, ModelNotFound
from tasks.core.models.marks import Kind, encode

if TYPE_CHECKING:  # they import torch
    from deployments.storefront.served_model import ServedModel
    from deployments.storefront.service import StorefrontService

T = TypeVar("T")
MOST_RETRIES = 100  # that a client may say it has made


class ImagesApi:
    """The routes; `service` raises RenderUnavailable until there is one."""

    def __init__(self, service: "Callable[[], StorefrontService]", door: Door) -> None:
        self.service, self.door = service, door

    def router(self) -> APIRouter:
        """All routes of the API."""
        router = APIRouter(prefix="/v1")
        made = router.post("/images/generations", response_model=None, responses={200: {"model": ImagesResponse}})
        made(self.generate)
        router.post("/images/feedback", status_code=204)(self.post_feedback)
        router.get("/models")(self.models)
        router.get("/models/{name}")(self.model)
        return router

    async def generate(self, body: ImageRequest, http: Request) -> Response:
        """Pictures of a prompt."""
        kind: Kind = body.output_format or "png"
        if body.output_compression is not None and kind == "png":
            raise FieldInvalid("output_compression", "png has none; ask for jpeg or webp")
        service = self.service()
        asked = service.drawings.find(body.model)
        orders = service.drawings.orders(body, asked)
        origin = self._origin(http, asked, body)
        drawings = await cancel_on_disconnect(http, service.drawings.generate(orders, asked, origin))
        shown = [drawing for drawing in drawings if not drawing.flagged]
        files = await asyncio.to_thread(lambda: [_encoded(each, kind, body.output_compression) for each in shown])
        answer = ImagesResponse(
            created=int(time.time()),
            data=[_data(drawing, file) for drawing, file in zip(shown, files, strict=True)],
            size="{}x{}".format(*shown[0].image.size),
            output_format=kind,
            flagged=len(drawings) - len(shown),
        )
        return Response(answer.model_dump_json(), media_type="application/json")

    async def post_feedback(self, body: FeedbackRequest, http: Request) -> None:
        """A vote on a picture that was rendered here; the last vote on a picture counts."""
        service = self.service()
        model = service.model_of(body.id)
        self.door.admit(http, model.config, "vote")
        service.vote(model, body.id, body.liked)

    async def models(self, http: Request) -> ModelList:
        """What can be asked for."""
        service = self.service()
        visitor = self.door.admit(http, None, "read")
        allowed = visitor.key.models if visitor.key else ()
        served = [model for name, model in service.models.items() if not allowed or name in allowed]
        return ModelList(data=[card for model in served for card in _cards(model)])

    async def model(self, name: str, http: Request) -> ModelCard:
        """One of them."""
        cards = (await self.models(http)).data
        found = next((card for card in cards if card.id == name), None)
        if found is None:
            raise ModelNotFound(name, "GET /v1/models lists what is")
        return found

    def _origin(self, http: Request, asked: Asked, body: ImageRequest) -> Origin:
        visitor = self.door.admit(http, asked.model.config, "render", user=body.user or "", pictures=body.n or 1)
        count = http.headers.get("x-stainless-retry-count", "")
        retry = int(count) if count.isascii() and count.isdecimal() and len(count) < 4 else 0
        return Origin(http.state.request_id, visitor, min(retry, MOST_RETRIES))


async def cancel_on_disconnect(http: Request, work: Coroutine[None, None, T]) -> T:
    """Await the work, and cancel it when the client disconnects."""
    task, disconnected = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(499, "the client disconnected")
        return task.result()
    finally:
        task.cancel()
        disconnected.cancel()


def _encoded(drawing: Drawing, kind: Kind, quality: int | None) -> str:
    return b64encode(encode(drawing.image, kind, drawing.mark, quality)).decode()


def _data(drawing: Drawing, file: str) -> ImageData:
    mark = drawing.mark
    return ImageData(
        b64_json=file,
        id=mark.request_id,
        seed=mark.seed,
        model=mark.model,
        generation=mark.generation,
        release=mark.release or "base",
    )


def _cards(model: "ServedModel") -> Iterator[ModelCard]:
    """The champion under the model's name, the bare base, and each generation."""
    served = model.follower.served
    yield _card(model, model.name, served.generation, served.release)
    yield _card(model, f"{model.name}{BASE}", 0, "")
    for generation, release in model.catalogue.releases.items():
        yield _card(model, f"{model.name}@{generation}", generation, release)


def _card(model: "ServedModel", name: str, generation: int, release: str) -> ModelCard:
    created = int(model.promoted(generation).timestamp())
    return ModelCard(id=name, created=created, generation=generation, release=release or "base")
