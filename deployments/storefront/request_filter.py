"""What a request must look like before anything reads it: bounded, in time, and for a path that is served.

Gradio serves much that the page does not need (uploads, files, proxies, sessions' internals): of its paths only those
that the page asks for are let through, and what is posted to them is one of two small documents.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import HTTPException
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024  # of a body
SECONDS = 20.0  # in which it must arrive
PAGE = re.compile(
    r"/shop(/|/config/?|/(theme\.css|manifest\.json|favicon\.ico|robots\.txt)|/(assets|static|svelte)/[\w./@+-]+"
    r"|/gradio_api/(info/?|startup-events|queue/(join|data)/?|cancel|heartbeat/[\w-]+))?"
)
HOST = re.compile(r"[\w.-]+(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?", re.ASCII)
PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)
FORWARDED = {b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-gradio-server"}

Session = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
Number = Annotated[int, Field(ge=0, le=10_000)]


class Join(BaseModel):
    """What the page asks of Gradio: one function, by its number, of one text or none."""

    data: list[Annotated[str, Field(max_length=10_000)] | None] = Field(max_length=1)
    fn_index: Number
    session_hash: Session
    trigger_id: Number | None = None


class Cancel(BaseModel):
    """A visitor who does not wait any longer."""

    session_hash: Session
    fn_index: Number
    event_id: Session


class RequestFilter:
    """Refuses what the storefront need not read. `inputs` are the numbers of inputs of the page's functions,
    `overloaded` asks for a session.
    """

    def __init__(self, app: ASGIApp, proxied: bool, inputs: Sequence[int], overloaded: Callable[[str], bool]) -> None:
        self.app, self.proxied, self.inputs, self.overloaded = app, proxied, inputs, overloaded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body, or answer 4xx."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            scope = self._checked(scope)
            body = await _body(scope, receive)
            replay = _replay(self._checked_body(_route(scope), scope["method"], body), receive)
        except HTTPException as error:
            await JSONResponse({"detail": error.detail}, error.status_code)(scope, receive, send)
        except ClientDisconnect:
            return
        else:
            await self.app(scope, replay, send)

    def _checked(self, scope: Scope) -> Scope:
        """The request with its host and path checked, and without what only a proxy may say."""
        headers = Headers(scope=scope)
        if not HOST.fullmatch(headers.get("host", "localhost")):
            raise HTTPException(400, "the Host header is no host")
        prefix = headers.get("x-forwarded-prefix", "").rstrip("/") if self.proxied else ""
        kept = [(k, v) for k, v in scope["headers"] if k not in FORWARDED or self._trusted(k, v.decode("latin-1"))]
        scope = {**scope, "headers": kept}
        if PREFIX.fullmatch(prefix) and not scope.get("root_path"):
            scope |= {"root_path": prefix, "path": prefix + scope["path"]}
        path = _route(scope)
        if path.startswith("/shop") and not PAGE.fullmatch(path):
            raise HTTPException(404, "the page has no such part")
        return scope

    def _trusted(self, name: bytes, value: str) -> bool:
        """Whether what a proxy says is passed on: a host, a scheme."""
        if name == b"x-forwarded-host":
            return self.proxied and bool(HOST.fullmatch(value))
        return self.proxied and name == b"x-forwarded-proto" and value in {"http", "https"}

    def _checked_body(self, path: str, method: str, body: bytes) -> bytes:
        """The body; of what is posted to Gradio only what the page itself would post."""
        if method != "POST" or not path.startswith("/shop"):
            return body
        kind = Cancel if path.endswith("/cancel") else Join
        try:
            posted = kind.model_validate_json(body)
        except ValidationError as error:
            raise HTTPException(422, problems(error.errors())) from error
        if posted.fn_index >= len(self.inputs):
            raise HTTPException(422, "the page has no such function")
        if isinstance(posted, Join) and len(posted.data) != self.inputs[posted.fn_index]:
            raise HTTPException(422, "the function of the page takes another number of values")
        if isinstance(posted, Join) and self.overloaded(posted.session_hash):
            raise HTTPException(429, "too many answers of this session were not read; reload the page")
        return posted.model_dump_json().encode()


def _route(scope: Scope) -> str:
    """The path without the one before it at which a proxy has the storefront."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def problems(errors: Sequence[Any]) -> list[dict[str, object]]:
    """What is wrong with a body by pydantic's errors, without its own text: that may be what no answer can hold."""
    return [{"loc": [str(part)[:100] for part in e["loc"]], "msg": e["msg"], "type": e["type"]} for e in errors[:10]]


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body; HTTPException when it is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in Request(scope, receive).stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"the body has more than {MOST_BYTES} bytes")
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {SECONDS:.0f} seconds") from error
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body which was read, then what else comes, such as the end of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
