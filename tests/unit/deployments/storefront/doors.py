"""A small shop with a real door: what it was asked, and who asked."""

from collections.abc import Mapping
from dataclasses import asdict

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.testclient import TestClient

from deployments.problems import Forbidden, Unauthorized
from deployments.storefront.door import Door, SessionCookie, Visitor
from tasks.core.access.errors import KeysUnread, LimitExceeded
from tasks.core.access.roles import Scope
from tasks.core.config.model import ModelConfig

HERE, ELSEWHERE = "192.0.2.7", "198.51.100.1"
LIMITLESS = {"limit_key": "", "limit_address": "", "limit_session": ""}


def shop(door: Door, models: Mapping[str, ModelConfig | None]) -> FastAPI:
    """An application with a route that asks the door, and a page."""
    app = FastAPI()

    @app.get("/ask")
    def ask(http: Request, model: str, scope: Scope, user: str = "", pictures: int = 0, page: bool = False) -> object:
        return seen(door.admit(http, models[model], scope, user, pictures, page))

    @app.get("/shop/")
    def page() -> HTMLResponse:
        return HTMLResponse("the page")

    app.add_exception_handler(Unauthorized, _unauthorized)
    app.add_exception_handler(Forbidden, _forbidden)
    app.add_exception_handler(LimitExceeded, _exceeded)
    app.add_exception_handler(KeysUnread, lambda _, error: JSONResponse({"detail": str(error)}, 503))
    app.add_middleware(SessionCookie, cookies=door.cookies)
    return app


def gradio_shop(door: Door, model: ModelConfig) -> FastAPI:
    """An application with a page of Gradio, whose only function asks the door."""

    async def draw(text: str, request: gr.Request) -> str:
        visitor = door.admit(request, model, "render", user=text, pictures=1, page=True)
        return f"{visitor.session}|{visitor.voter}|{visitor.address}"

    with gr.Blocks() as page:
        box, out = gr.Textbox(), gr.Textbox()
        gr.Button().click(draw, box, out)
    app = FastAPI()
    app.add_middleware(SessionCookie, cookies=door.cookies)
    gr.mount_gradio_app(app, page, path="/shop", auth_dependency=door.page_user)
    return app


def seen(visitor: Visitor) -> dict[str, object]:
    """The visitor as JSON, of a key only the name."""
    return asdict(visitor) | {"key": visitor.key.name if visitor.key else ""}


def visitor_at(app: FastAPI, address: str = HERE, key: str = "", **cookies: str) -> TestClient:
    """A client at an address; without redirects."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return TestClient(app, client=(address, 50_000), headers=headers, cookies=cookies, raise_server_exceptions=False)


def ask(client: TestClient, model: str = "adire", scope: str = "render", **fields: str | int) -> dict[str, object]:
    """The visitor that the door has seen; fails if it refused."""
    answer = client.get("/ask", params={"model": model, "scope": scope, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def _unauthorized(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Unauthorized)
    return JSONResponse({"detail": str(error)}, 401, {"WWW-Authenticate": error.challenge})


def _forbidden(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Forbidden)
    return JSONResponse({"detail": str(error)}, 403, {"WWW-Authenticate": error.challenge})


def _exceeded(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LimitExceeded)
    return JSONResponse({"detail": str(error)}, 429, {"Retry-After": str(error.retry_after)})
