"""Refuses to serve beyond loopback with a default, empty or short secret."""

from collections.abc import Callable

from pydantic import SecretStr
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.addresses import is_loopback
from tasks.core.errors import SettingError

SHORTEST = 12  # minimum number of characters of a secret; longer than any default


def check_exposure(host: str, setting: str, secret: SecretStr) -> None:
    """Raise SettingError when a weak secret would be used on an address other than loopback."""
    if len(secret.get_secret_value()) >= SHORTEST or is_loopback(host):
        return
    advice = "set it to a long random text (openssl rand -hex 32), or listen on 127.0.0.1"
    raise SettingError(setting, f"has fewer than {SHORTEST} characters, and {host or 'all'} is not loopback: {advice}")


class ExposureGuard:
    """ASGI middleware that rejects requests on an exposed address with a weak secret, however it was started."""

    def __init__(self, app: ASGIApp, setting: str, secret: Callable[[], SecretStr]) -> None:
        self.app, self.setting, self.secret = app, setting, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with a 503 and the reason."""
        try:
            if scope["type"] in {"http", "websocket"}:
                check_exposure((scope.get("server") or ("",))[0], self.setting, self.secret())
        except SettingError as error:
            await JSONResponse({"error": str(error)}, 503)(scope, receive, send)
        else:
            await self.app(scope, receive, send)
