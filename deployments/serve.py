"""Public processes: they listen beyond loopback only with a strong secret, and limit connections."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from deployments.addresses import Network, client_key, is_among, is_loopback, networks
from deployments.exposure import check_exposure
from tasks.core.config.installation import Settings, read_settings

SECRETS: dict[str, tuple[str, Callable[[Settings], SecretStr]]] = {
    "storefront": ("DYEWORKS_SESSION_KEY", lambda settings: settings.session_key),
    "gateway": ("DYEWORKS_WEBHOOK_TOKEN", lambda settings: settings.weakest_webhook_token),
}
CONNECTIONS = 4000  # at once; while there are more, every request gets a 503
OF_ONE_CLIENT = 400  # of them; its others are closed at once
FILES = 8192  # that may be open at once, where the system lets us: many have a limit of 1024
HEAD_SECONDS = 20.0  # after which a connection without a complete request head is closed


class Connections:
    """Counts the connections of each client; loopback and the networks of `exempt` speak for many clients."""

    def __init__(self, exempt: Sequence[Network] = ()) -> None:
        self.exempt, self.counts = exempt, Counter[str]()

    def opened(self, host: str) -> str:
        """The client, counted; empty for one that speaks for many."""
        if is_loopback(host) or is_among(host, self.exempt):
            return ""
        self.counts[client_key(host)] += 1
        return client_key(host)

    def closed(self, client: str) -> None:
        """Count one less."""
        self.counts[client] -= 1
        if not self.counts[client]:
            del self.counts[client]


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with a timeout for clients that send nothing, or only a byte now and then.

    A client that has OF_ONE_CLIENT connections gets no more.
    """

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.open, self.owner = connections, ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for request heads."""
        super().connection_made(transport)
        self.owner = self.open.opened(self.client[0] if self.client else "")
        if self.open.counts[self.owner] > OF_ONE_CLIENT:
            transport.close()
        self.loop.call_later(HEAD_SECONDS, self._check, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count one less."""
        super().connection_lost(exc)
        if self.owner:
            self.open.closed(self.owner)

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
        http=partial(GuardedProtocol, Connections(_many(settings))),  # type: ignore[arg-type]
        ws="none",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies or None,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=10,
    )


def _many(settings: Settings) -> list[Network]:
    """The networks of proxies and of backends of one's own."""
    proxies = settings.proxies.replace("*", "0.0.0.0/0,::/0")
    return [
        *networks("DYEWORKS_PROXIES", proxies),
        *networks("DYEWORKS_TRUSTED_ADDRESSES", settings.trusted_addresses),
    ]


def _create_app(service: str, settings: Settings, models: Sequence[str]) -> ASGIApp:
    """The application; only the served one is imported."""
    if service == "gateway":
        from deployments.gateway.app import create_app  # noqa: PLC0415

        return create_app(settings)
    from deployments.storefront.app import create_app as create_storefront  # noqa: PLC0415

    return create_storefront(settings, models)
