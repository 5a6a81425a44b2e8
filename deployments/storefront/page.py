"""The storefront's page: a prompt, a picture, and two buttons to say what one thinks of it."""

from collections.abc import Awaitable, Callable

import gradio as gr
from PIL import Image

from deployments.storefront.engine import Picture
from tasks.core.errors import PictureUnknown

Draw = Callable[[str, str], Awaitable[tuple[str, Picture]]]  # prompt, visitor -> request id, picture
VoteOn = Callable[[str, bool], object]  # request id, liked
SIDE = 512  # pixels on the page
CSS = f"#votes, #says, #thanks {{ width: 100%; max-width: {SIDE}px; margin: 0 auto; }}"  # under the picture


def build_page(trigger: str, draw: Draw, vote: VoteOn) -> gr.Blocks:
    """The page; `draw` and `vote` are what the API does too."""

    async def show(prompt: str, request: gr.Request) -> tuple[object, ...]:
        if not prompt.strip():
            raise gr.Error("Say what the cloth should show.")
        identity, picture = await draw(prompt, request.session_hash or "page")
        by = f"generation {picture.generation}" if picture.release else "the bare base model"
        fresh = gr.Button(interactive=True, variant="secondary")
        return _large(picture.image), f"Drawn by {by} in {picture.seconds:.1f} s.", identity, "", fresh, fresh

    def said(liked: bool) -> Callable[[str], tuple[object, ...]]:
        def say(identity: str) -> tuple[object, ...]:
            try:
                vote(identity, liked)
            except PictureUnknown as error:
                raise gr.Error("This picture is too old to be voted on; draw another one.") from error
            chosen, other = gr.Button(variant="primary"), gr.Button(variant="secondary")
            thanks = f"Thank you. You {'like' if liked else 'do not like'} it; you can change your mind."
            return thanks, *((chosen, other) if liked else (other, chosen))

        return say

    with gr.Blocks(title="dyeworks") as page:
        gr.Markdown(f"# dyeworks\nAsk for a cloth. Say `{trigger}` for the house style.")
        prompt = gr.Textbox(label="Prompt", value=f"large rings in {trigger}", elem_id="prompt")
        button = gr.Button("Draw", variant="primary", elem_id="draw")
        picture = gr.Image(label="Cloth", height=SIDE, width=SIDE, elem_id="picture")
        with gr.Row(elem_id="votes"):
            like = gr.Button("I like it", interactive=False, elem_id="like")
            dislike = gr.Button("I do not like it", interactive=False, elem_id="dislike")
        says, thanks = gr.Markdown(elem_id="says"), gr.Markdown(elem_id="thanks")
        identity = gr.State("")
        gr.on([button.click, prompt.submit], show, prompt, [picture, says, identity, thanks, like, dislike])
        like.click(said(True), identity, [thanks, like, dislike])
        dislike.click(said(False), identity, [thanks, like, dislike])
    return page


def _large(picture: Image.Image) -> Image.Image:
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS) if picture.width < SIDE else picture
