"""Public processes: they listen beyond loopback with a strong secret alone, and a connection costs a bounded amount."""

import asyncio
from functools import partial

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from deployments.exposure import check_exposure
from tasks.core.config.installation import Settings, read_settings

SECRETS = {"storefront": "session_key", "webhook": "webhook_token"}
CONNECTIONS = 1000  # at once; further ones are answered 503
HEAD_SECONDS = 20.0  # after which a connection that has not sent the whole head of a request is closed


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, without clients that connect and send nothing, or a byte now and then."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look whether requests come."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._look, None)

    def _look(self, seen: RequestResponseCycle | None) -> None:
        """Close the connection where no request has begun since the last look and none is being answered."""
        if self.transport.is_closing():
            return
        if self.cycle is seen and (seen is None or seen.response_complete):
            self.transport.close()
        else:
            self.loop.call_later(HEAD_SECONDS, self._look, self.cycle)


def serve_until_signal(service: str, host: str, port: int, model: str = "") -> int:
    """Serve until a signal; 1 when it could not start. Raises SettingError where it may not listen there."""
    settings = read_settings()
    secret = SECRETS[service]
    check_exposure(host, f"DYEWORKS_{secret.upper()}", getattr(settings, secret))
    server = uvicorn.Server(configure(service, host, port, settings, model))
    server.run()
    return 0 if server.started else 1


def configure(service: str, host: str, port: int, settings: Settings, model: str = "") -> uvicorn.Config:
    """How it is served: h11 bounds the headers, and X-Forwarded-For counts from named proxies alone."""
    return uvicorn.Config(
        partial(_create_app, service, settings, model),
        host,
        port,
        factory=True,
        http=ImpatientProtocol,
        ws="none",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies or None,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=10,
    )


def _create_app(service: str, settings: Settings, model: str) -> ASGIApp:
    """The application; only the one that is served is imported."""
    if service == "webhook":
        from deployments.webhook.app import create_app  # noqa: PLC0415

        return create_app(settings)
    from deployments.storefront.app import create_app as create_storefront  # noqa: PLC0415

    return create_storefront(settings, model)
