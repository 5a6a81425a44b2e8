"""Public processes: they listen beyond loopback only with a strong secret, and limit connections."""

import asyncio
import resource
from collections.abc import Callable, Sequence
from functools import partial

import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from deployments.exposure import check_exposure
from tasks.core.config.installation import Settings, read_settings

SECRETS: dict[str, tuple[str, Callable[[Settings], SecretStr]]] = {
    "storefront": ("DYEWORKS_SESSION_KEY", lambda settings: settings.session_key),
    "gateway": ("DYEWORKS_WEBHOOK_TOKEN", lambda settings: settings.weakest_webhook_token),
}
CONNECTIONS = 4000  # at once; while there are more, every request gets a 503
FILES = 8192  # that may be open at once, where the system lets us: many have a limit of 1024
HEAD_SECONDS = 20.0  # after which a connection without a complete request head is closed


class HeadTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with a timeout for clients that send nothing, or only a byte now and then."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for request heads."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._check, None)

    def _check(self, seen: RequestResponseCycle | None) -> None:
        """Close the connection if no request has started since the last check and none is in progress."""
        if self.transport.is_closing():
            return
        if self.cycle is seen and (seen is None or seen.response_complete):
            self.transport.close()
        else:
            self.loop.call_later(HEAD_SECONDS, self._check, self.cycle)


def serve_until_signal(service: str, host: str, port: int, models: Sequence[str] = ()) -> int:
    """Serve until a signal; returns 1 if it could not start. Raises SettingError for an exposed weak secret."""
    settings = read_settings()
    setting, secret = SECRETS[service]
    check_exposure(host, setting, secret(settings))
    allow_files()
    server = uvicorn.Server(configure(service, host, port, settings, models))
    server.run()
    return 0 if server.started else 1


def allow_files() -> None:
    """Raise the limit of open files, each connection being one: else a crowd would leave none for the logs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def configure(service: str, host: str, port: int, settings: Settings, models: Sequence[str] = ()) -> uvicorn.Config:
    """The server's configuration: h11 limits headers; X-Forwarded-For is only trusted from configured proxies."""
    return uvicorn.Config(
        partial(_create_app, service, settings, models),
        host,
        port,
        factory=True,
        http=HeadTimeoutProtocol,
        ws="none",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies or None,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=10,
    )


def _create_app(service: str, settings: Settings, models: Sequence[str]) -> ASGIApp:
    """The application; only the served one is imported."""
    if service == "gateway":
        from deployments.gateway.app import create_app  # noqa: PLC0415

        return create_app(settings)
    from deployments.storefront.app import create_app as create_storefront  # noqa: PLC0415

    return create_storefront(settings, models)
