"""The storefront's page: a prompt, a picture, and two buttons to vote on it.

Gradio stores nothing of a visitor on disk: the response contains the picture and its request id.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable

import gradio as gr
from gradio.utils import LRUCache
from pydantic import ValidationError

from deployments.storefront.bodies import LONGEST, ImageRequest
from deployments.storefront.door import Door
from deployments.storefront.drawing import Origin
from deployments.storefront.errors import PicturesFlagged, PictureUnknown
from deployments.storefront.render_queue import WAITING
from deployments.storefront.service import StorefrontService
from tasks.core.errors import DyeworksError
from tasks.core.models.marks import encode

QUIET = {"print_exception": False}  # errors of visitors are not logged
SIDE = 512  # pixels on the page
SESSIONS = WAITING + 100  # maximum number of sessions whose state and unread events Gradio holds
UNREAD = 5  # maximum number of unread events of a session
CSS = f"""#votes, #says, #thanks, #picture {{ width: 100%; max-width: {SIDE}px; margin: 0 auto; }}
#picture {{ aspect-ratio: 1; }} #picture img {{ width: 100%; }} #identity {{ display: none; }}"""


def build_page(service: Callable[[], StorefrontService], door: Door, batch: int) -> gr.Blocks:
    """The page; it renders and votes as the API does. Two batches of requests run concurrently."""

    async def show(prompt: str | None, request: gr.Request) -> tuple[object, ...]:
        body = _request(prompt or "")
        try:
            drawings = service().drawings
            asked = drawings.find(None)
            visitor = door.admit(request, asked.model.config, "render", pictures=1, page=True)
            (drawing,) = await drawings.generate(body, asked, Origin(request.request.state.request_id, visitor))
            if drawing.flagged:
                raise PicturesFlagged
        except DyeworksError as error:
            raise gr.Error(str(error), **QUIET) from error
        by = f"generation {drawing.mark.generation}" if drawing.mark.release else "the bare base model"
        file = await asyncio.to_thread(encode, drawing.image, "webp", drawing.mark)
        shown = f'<img alt="the cloth" src="data:image/webp;base64,{b64encode(file).decode()}">'
        fresh = gr.Button(interactive=True, variant="secondary")
        says = f"Drawn by {by} in {drawing.seconds:.1f} s."
        return shown, says, drawing.mark.request_id, "", fresh, fresh

    def vote_handler(liked: bool) -> Callable[[str, gr.Request], Awaitable[tuple[object, ...]]]:
        async def submit(identity: str, request: gr.Request) -> tuple[object, ...]:
            try:
                model = service().model_of(identity or "")
                door.admit(request, model.config, "vote", page=True)
                service().vote(identity or "", liked)
            except PictureUnknown as error:
                raise gr.Error("This picture is too old to vote on; draw another one.", **QUIET) from error
            except DyeworksError as error:
                raise gr.Error(str(error), **QUIET) from error
            chosen, other = gr.Button(variant="primary"), gr.Button(variant="secondary")
            thanks = f"Thank you. You {'like' if liked else 'do not like'} it; you can change your vote."
            return thanks, *((chosen, other) if liked else (other, chosen))

        return submit

    with gr.Blocks(title="dyeworks") as page:
        gr.Markdown("# dyeworks\nDescribe a cloth to draw.", elem_id="heading")
        prompt = gr.Textbox(label="Prompt", elem_id="prompt")
        button = gr.Button("Draw", variant="primary", elem_id="draw")
        picture = gr.HTML(elem_id="picture")
        with gr.Row(elem_id="votes"):
            like = gr.Button("I like it", interactive=False, elem_id="like")
            dislike = gr.Button("I do not like it", interactive=False, elem_id="dislike")
        says, thanks = gr.Markdown(elem_id="says"), gr.Markdown(elem_id="thanks")
        identity = gr.Textbox(elem_id="identity")
        gr.on([button.click, prompt.submit], show, prompt, [picture, says, identity, thanks, like, dislike])
        like.click(vote_handler(True), identity, [thanks, like, dislike])
        dislike.click(vote_handler(False), identity, [thanks, like, dislike])
    return _bounded(page, batch)


def set_trigger(page: gr.Blocks, trigger: str) -> None:
    """Fill in the heading and a first prompt, for visitors who load the page from now on.

    They are part of the page, since an event on load would wait in Gradio's queue and overwrite what a visitor types.
    """
    values = {
        "heading": f"# dyeworks\nDescribe a cloth to draw. Include `{trigger}` for the house style.",
        "prompt": f"large rings in {trigger}",
    }
    for component in page.blocks.values():
        if component.elem_id in values:
            component.value = values[component.elem_id]
    page.config = page.get_config_file()


def _request(prompt: str) -> ImageRequest:
    """The request of a prompt on the page; raises gr.Error with the reason if it is invalid."""
    try:
        return ImageRequest(prompt=prompt)
    except ValidationError as error:
        if len(prompt) > LONGEST:
            reason = f"The prompt has {len(prompt)} characters; at most {LONGEST} are allowed."
            raise gr.Error(reason, **QUIET) from error
        raise gr.Error("Describe what the cloth should show.", **QUIET) from error


def _bounded(page: gr.Blocks, batch: int) -> gr.Blocks:
    """Configure Gradio's queue, with bounds on everything that would grow with every new session."""
    page.max_threads = 2 * batch + 8
    page.queue(max_size=WAITING, default_concurrency_limit=2 * batch, api_open=False)
    page.state_session_capacity = SESSIONS
    page._queue.pending_messages_per_session = LRUCache(SESSIONS)
    page._queue.pending_event_ids_session = LRUCache(SESSIONS)
    page._queue.ANALYTICS_MAX_EVENTS = 100
    return page


def is_overloaded(page: gr.Blocks, session: str) -> bool:
    """Whether a session has so many unread events that further requests are rejected."""
    return len(page._queue.pending_event_ids_session.get(session, ())) >= UNREAD
