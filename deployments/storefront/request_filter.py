"""Validates requests before any other code reads them: size, time and path.

Gradio serves much that the page does not need (uploads, files, proxies, sessions' internals): only the paths that the
page requests are allowed, with one of three small documents as the body of a POST.
"""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import BaseModel, Field, StrictBool, StrictInt, TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.problems import ApiError, first_fault, of_error, problem
from deployments.request_body import read_body
from deployments.storefront.bodies import MOST_PICTURES

MOST_BYTES = 64 * 1024  # maximum size of a body
MOST_ON_PAGE = 4  # pictures of a call
SECONDS = 20.0  # within which the body must arrive
PAGE = re.compile(
    r"/shop(/|/offers|/config/?|/(theme\.css|manifest\.json|favicon\.ico|robots\.txt)"
    r"|/(assets|static|svelte)/[\w./@+-]+"
    r"|/gradio_api/(info/?|startup-events|queue/(join|data)/?|cancel|heartbeat/[\w-]+))?"
)
HOST = re.compile(r"[\w.-]+(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?", re.ASCII)
PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)
FORWARDED = {b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-gradio-server"}

Session = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
Number = Annotated[int, Field(ge=0, le=10_000)]
Text = Annotated[str, Field(max_length=10_000)]  # the page says what is wrong with one of more than LONGEST
ModelName = Annotated[str, Field(pattern=r"^([a-z0-9-]{1,60}(@[0-9]{1,9})?)?$")]
Pictures = Annotated[StrictInt, Field(ge=1, le=MOST_ON_PAGE)]
Size = Annotated[str, Field(pattern=r"^([0-9]{1,4}x[0-9]{1,4})?$")]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**32 - MOST_PICTURES)]
PictureId = Annotated[str, Field(max_length=100)]


class DrawCall(BaseModel):
    """A call of the page's function that draws: model, prompt, negative prompt, pictures, size and seed."""

    fn_index: Literal[0]
    data: tuple[ModelName, Text, Text, Pictures, Size, Seed | None]
    session_hash: Session
    trigger_id: Number | None = None


class VoteCall(BaseModel):
    """A call of the page's function that votes: the picture, and whether it is liked."""

    fn_index: Literal[1]
    data: tuple[PictureId, StrictBool]
    session_hash: Session
    trigger_id: Number | None = None


class Cancel(BaseModel):
    """The cancellation of a drawing."""

    fn_index: Literal[0]
    session_hash: Session
    event_id: Session


JOIN: TypeAdapter[DrawCall | VoteCall] = TypeAdapter(Annotated[DrawCall | VoteCall, Field(discriminator="fn_index")])
CANCEL = TypeAdapter(Cancel)


class RequestFilter:
    """ASGI middleware that rejects invalid requests.

    `overloaded` returns whether a session has too many unread events.
    """

    def __init__(self, app: ASGIApp, proxied: bool, overloaded: Callable[[str], bool]) -> None:
        self.app, self.proxied, self.overloaded = app, proxied, overloaded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body, or respond with a 4xx."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            scope = self._checked(scope)
            body = await read_body(Request(scope, receive), MOST_BYTES, SECONDS)
            replay = _replay(self._checked_body(_route(scope), scope["method"], body), receive)
        except HTTPException as error:
            await problem(error.status_code, str(error.detail))(scope, receive, send)
        except ApiError as error:
            await of_error(error)(scope, receive, send)
        except ClientDisconnect:
            return
        else:
            await self.app(scope, replay, send)

    def _checked(self, scope: Scope) -> Scope:
        """The scope with host and path validated, and without forwarding headers that are not trusted."""
        headers = Headers(scope=scope)
        if not HOST.fullmatch(headers.get("host", "localhost")):
            raise HTTPException(400, "the Host header is invalid")
        prefix = headers.get("x-forwarded-prefix", "").rstrip("/") if self.proxied else ""
        kept = [(k, v) for k, v in scope["headers"] if k not in FORWARDED or self._trusted(k, v.decode("latin-1"))]
        scope = {**scope, "headers": kept}
        if PREFIX.fullmatch(prefix) and not scope.get("root_path"):
            scope |= {"root_path": prefix, "path": prefix + scope["path"]}
        path = _route(scope)
        if path.startswith("/shop") and not PAGE.fullmatch(path):
            raise HTTPException(404, "the page has no such path")
        return scope

    def _trusted(self, name: bytes, value: str) -> bool:
        """Whether a proxy's forwarding header is passed on: a host or a scheme."""
        if name == b"x-forwarded-host":
            return self.proxied and bool(HOST.fullmatch(value))
        return self.proxied and name == b"x-forwarded-proto" and value in {"http", "https"}

    def _checked_body(self, path: str, method: str, body: bytes) -> bytes:
        """The body; for Gradio it must be a document that the page itself would post."""
        if method != "POST" or not path.startswith("/shop"):
            return body
        try:
            posted = (CANCEL if path.endswith("/cancel") else JOIN).validate_json(body)
        except ValidationError as error:
            raise HTTPException(422, ": ".join(first_fault(error.errors()))) from error
        if not isinstance(posted, Cancel) and self.overloaded(posted.session_hash):
            raise HTTPException(429, "this session has too many unread responses; reload the page")
        return posted.model_dump_json().encode()


def _route(scope: Scope) -> str:
    """The path without the prefix under which a proxy serves the storefront."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body already read, then further messages, such as the disconnect."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
