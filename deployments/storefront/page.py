"""The storefront's page: a Gradio application of one component, whose markup, style and script lie in `templates/`.

Gradio stores nothing of a visitor on disk: the response contains the pictures, and the browser keeps the history of a
visit. The script calls two functions through Gradio's queue, by number: 0 draws, 1 votes (`request_filter.py`).
"""

import asyncio
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import gradio as gr
from pydantic import ValidationError
from starlette.requests import Request

from deployments.storefront.bodies import ImageRequest
from deployments.storefront.door import Door
from deployments.storefront.drawing import Drawing, Origin
from deployments.storefront.errors import RenderUnavailable
from deployments.storefront.offers import OPENING, Offers, offers_of
from deployments.storefront.page_words import words
from deployments.storefront.render_queue import WAITING
from tasks.core.errors import DyeworksError
from tasks.core.models.marks import Kind, encode

if TYPE_CHECKING:  # it imports torch
    from deployments.storefront.service import StorefrontService

TEMPLATES = Path(__file__).parent / "templates"
HTML, CSS, SCRIPT = ((TEMPLATES / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
HEAD = (TEMPLATES / "head.html").read_text("utf-8") + f"<style>{CSS}</style>"
THEME = gr.themes.Base(font="system-ui", font_mono="monospace").set(  # before the style is there
    body_background_fill="#faf8f3", body_background_fill_dark="#12142a"
)
LOSSLESS = 256  # pixels of a side up to which a picture is a PNG: the page scales it up, and it is small
SESSIONS = WAITING + 100  # maximum number of sessions whose state and unread events Gradio holds
UNREAD = 5  # maximum number of unread events of a session
Answer = dict[str, object]
V = TypeVar("V")


class Shop:
    """What the page's script calls; answers are JSON, with a `problem` in plain words where there is no picture."""

    def __init__(self, service: "Callable[[], StorefrontService]", door: Door) -> None:
        self.service, self.door = service, door

    async def draw(
        self, model: str, prompt: str, negative: str, pictures: int, size: str, seed: int | None, request: gr.Request
    ) -> Answer:
        """Pictures of a prompt, with what drew each."""
        try:
            asked = ImageRequest(
                model=model or None,
                prompt=prompt,
                negative_prompt=negative or None,
                n=pictures,
                size=size or None,
                seed=seed,
            )
            drawings = await self._drawings(asked, request)
        except (ValidationError, DyeworksError) as error:
            return {"problem": words(error)}
        shown = [drawing for drawing in drawings if not drawing.flagged]
        made = await asyncio.to_thread(lambda: [_picture(drawing) for drawing in shown])
        return {"pictures": made, "flagged": len(drawings) - len(shown)}

    async def vote(self, picture: str, liked: bool, request: gr.Request) -> Answer:
        """Record a vote."""
        try:
            service = self.service()
            model = service.model_of(picture)
            self.door.admit(request, model.config, "vote", page=True)
            service.vote(model, picture, liked)
        except DyeworksError as error:
            return {"problem": words(error)}
        return {"liked": liked}

    async def offers(self, http: Request) -> Offers:
        """What can be drawn with now; the page is shown before anything can."""
        visitor = self.door.admit(http, None, "read")
        try:
            return offers_of(self.service(), visitor)
        except RenderUnavailable:  # the log says why
            return Offers(problem=OPENING)

    async def _drawings(self, asked: ImageRequest, request: gr.Request) -> list[Drawing]:
        drawings = self.service().drawings
        model = drawings.find(asked.model)
        orders = drawings.orders(asked, model)
        visitor = self.door.admit(request, model.model.config, "render", pictures=len(orders), page=True)
        return await drawings.generate(orders, model, Origin(request.request.state.request_id, visitor))


def build_page(shop: Shop, batch: int) -> gr.Blocks:
    """The page; it renders and votes as the API does. Two batches of requests run concurrently."""
    with gr.Blocks(title="dyeworks") as page:
        gr.HTML(html_template=HTML, js_on_load=SCRIPT, apply_default_css=False, elem_id="shop")
        answer, called = gr.JSON(visible=False), gr.Button(visible=False)
        model, prompt, negative, size = (gr.Textbox(visible=False) for _ in range(4))
        pictures, seed = gr.Number(precision=0, visible=False), gr.Number(precision=0, visible=False)
        picture, liked = gr.Textbox(visible=False), gr.Checkbox(visible=False)
        called.click(shop.draw, [model, prompt, negative, pictures, size, seed], answer)
        called.click(shop.vote, [picture, liked], answer, concurrency_limit=batch)
    return _bounded(page, batch)


def is_overloaded(page: gr.Blocks, session: str) -> bool:
    """Whether a session has so many unread events that further requests are rejected."""
    return len(page._queue.pending_event_ids_session.get(session, ())) >= UNREAD


def _picture(drawing: Drawing) -> Answer:
    mark, image = drawing.mark, drawing.image
    kind: Kind = "png" if max(image.size) <= LOSSLESS else "webp"
    return {
        "id": mark.request_id,
        "file": f"data:image/{kind};base64,{b64encode(encode(image, kind, mark)).decode()}",
        "kind": kind,
        "width": image.width,
        "height": image.height,
        "model": mark.model,
        "generation": mark.generation if mark.release else 0,
        "seed": mark.seed,
        "seconds": round(drawing.seconds, 1),
    }


class IdleFirst(OrderedDict[str, V]):
    """What Gradio holds of a session, at most `SESSIONS`: sessions without pending events are forgotten, oldest first.

    What is missing is made for the moment: one KeyError in Gradio's queue would stop it for all visitors.
    """

    def __init__(self, is_idle: Callable[[str], bool], make: Callable[[], V]) -> None:
        super().__init__()
        self.is_idle, self.make = is_idle, make

    def __setitem__(self, session: str, value: V) -> None:
        """Hold this, and forget the oldest that is idle if there are too many; the queue bounds those that wait."""
        if session not in self and len(self) >= SESSIONS:
            oldest = next((other for other in self if self.is_idle(other)), None)
            if oldest is not None:
                del self[oldest]
        super().__setitem__(session, value)

    def __missing__(self, session: str) -> V:
        """Something that nobody reads."""
        return self.make()


def _bounded(page: gr.Blocks, batch: int) -> gr.Blocks:
    """Configure Gradio's queue, with bounds on everything that would grow with every new session."""
    page.max_threads = 2 * batch + 8
    page.queue(max_size=WAITING, default_concurrency_limit=2 * batch, api_open=False)
    page.state_session_capacity = SESSIONS
    events: IdleFirst[set[str]] = IdleFirst(lambda session: not events.get(session), set)
    page._queue.pending_event_ids_session = events
    page._queue.pending_messages_per_session = IdleFirst(lambda session: not events.get(session), asyncio.Queue[object])
    page._queue.ANALYTICS_MAX_EVENTS = 100
    return page
