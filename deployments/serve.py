"""Runs a public process: `python -m deployments.serve storefront|webhook [--host 127.0.0.1] [--port 8000]`.

Refuses to listen where others can reach it with a default secret, and bounds what a connection may cost.
"""

import argparse
import asyncio
import sys

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from deployments.exposure import check_exposure
from tasks.core.config.installation import Settings, get_settings
from tasks.core.errors import DyeworksError

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


def main() -> int:
    """Serve until a signal; 1 when it may not listen there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=sorted(SECRETS))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        settings = get_settings()
        secret = SECRETS[options.service]
        check_exposure(options.host, f"DYEWORKS_{secret.upper()}", getattr(settings, secret))
        server = uvicorn.Server(configure(options.service, options.host, options.port, settings))
        server.run()
    except DyeworksError as error:
        print(f"dyeworks: {error}", file=sys.stderr)
        return 1
    return 0 if server.started else 1


def configure(service: str, host: str, port: int, settings: Settings) -> uvicorn.Config:
    """How it is served: h11 bounds the headers, and X-Forwarded-For counts from named proxies alone."""
    return uvicorn.Config(
        f"deployments.{service}.app:app",
        host,
        port,
        http=ImpatientProtocol,
        ws="none",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies or None,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    sys.exit(main())
