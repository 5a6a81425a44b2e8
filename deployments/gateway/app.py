"""The upload webhook: an object store's notification triggers an ingest. The process does not import torch.

`POST /hooks/s3` with `Authorization: Bearer <DYEWORKS_WEBHOOK_TOKEN>`, or Basic with the token as the password.
Duplicate notifications have no effect. They are in the store before the response; a burst of them becomes one event
for each dataset, which is sent afterwards.
"""

import asyncio
import base64
import binascii
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect, Request

from deployments.exposure import ExposureGuard
from deployments.gateway.bursts import Gatherer
from deployments.gateway.inbox import WRITERS, Inbox, uploads_in
from deployments.gateway.notifications import NotificationUnusable, Reading, StoreLocation, read_notification
from deployments.gateway.sender import Sender
from tasks.core.config.installation import Settings
from tasks.core.data.file_kinds import is_ready
from tasks.core.data.parallel import in_order
from tasks.core.errors import DyeworksError
from tasks.core.installation import Installation, open_installation

MOST_BYTES = 1_000_000  # maximum size of a body; SNS and EventBridge send at most 256 KiB
BODY_SECONDS = 30  # for a body to arrive
MAX_LISTED, MAX_CHARACTERS = 20, 100  # entries in a list of the response, and characters of a key in one

log = logging.getLogger("dyeworks.webhook")


class Webhook:
    """The receiver: settings, the installation, which is opened lazily, the gatherer and the sender of events."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sender = Sender(lambda: self.installation)
        waits = settings.upload_quiet_seconds, settings.upload_longest_seconds
        self.gatherer = Gatherer(lambda: self.inbox, *waits, wake=self.sender.wake)

    @cached_property
    def installation(self) -> Installation:
        """The store and the Prefect server; raises StoreUnusable, and is tried again on the next access."""
        return open_installation(self.settings)

    @property
    def inbox(self) -> Inbox:
        """The notifications in the store; raises StoreUnusable."""
        return Inbox(self.installation.store)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the gatherer and the sender for the lifetime of the server."""
        running = [asyncio.create_task(self.gatherer.run()), asyncio.create_task(self.sender.run())]
        yield
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def authorise(self, request: Request) -> None:
        """Check the token; 401 if it is wrong, before the body is read."""
        token = self.settings.webhook_token.get_secret_value()
        if not token or not secrets.compare_digest(_token(request.headers.get("Authorization", "")), token.encode()):
            expected = "'Bearer' and the webhook's token, or 'Basic' with it as the password"
            raise HTTPException(401, f"the Authorization header must be {expected}", {"WWW-Authenticate": "Bearer"})

    def health(self) -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    async def take_notification(self, request: Request) -> JSONResponse:
        """Take notifications of uploads; 202, or 200 if there are none.

        The response lists what was skipped: `ignored` is not an upload into this store, `bad` cannot be parsed.
        """
        reading = read_notification(await read_body(request))
        records = len(reading.uploads) + len(reading.ignored) + len(reading.bad)
        new = await asyncio.to_thread(self._take, reading) if reading.uploads else {}
        for dataset, names in new.items():
            self.gatherer.arrived(dataset, names)
        lists = {name: words for name, words in (("ignored", reading.ignored), ("bad", reading.bad)) if words}
        if lists:
            log.info("notification: %r", {name: words[:MAX_LISTED] for name, words in lists.items()})
        answer: dict[str, object] = {"new": sum(map(uploads_in, new.values())), "records": records}
        answer |= {name: [*words[:MAX_LISTED], *_more(words)] for name, words in lists.items()}
        return JSONResponse(answer, 202 if reading.uploads else 422 if reading.bad else 200)

    def _take(self, reading: Reading) -> dict[str, list[str]]:
        """Put uploads into the inbox; returns the names of new ones by dataset. Others are added to `ignored`."""
        inbox, place = self.inbox, StoreLocation.of(self.settings.store)
        mine = list[tuple[str, str, bool]]()
        for bucket, key, identity in dict.fromkeys(reading.uploads):
            if place.bucket not in {"", bucket}:
                reading.ignored.append(f"{key[:MAX_CHARACTERS]}: bucket {bucket[:MAX_CHARACTERS]} is not the store's")
            elif not (dataset := place.dataset(key)):
                reading.ignored.append(f"{key[:MAX_CHARACTERS]}: not under uploads/<dataset>/ of the store")
            else:
                mine.append((dataset, identity, is_ready(key)))
        names = in_order(lambda one: inbox.add(one[0], one[1], ready=one[2]), mine, WRITERS)
        new = defaultdict[str, list[str]](list)
        for (dataset, _, _), name in zip(mine, names, strict=True):
            if name:
                new[dataset].append(name)
        return new


def create_app(settings: Settings) -> FastAPI:
    """The application of an installation."""
    webhook = Webhook(settings)
    app = FastAPI(title="dyeworks webhook", docs_url=None, redoc_url=None, openapi_url=None, lifespan=webhook.lifespan)
    app.add_middleware(ExposureGuard, setting="DYEWORKS_WEBHOOK_TOKEN", secret=lambda: settings.webhook_token)
    app.add_exception_handler(DyeworksError, _error_response)
    app.add_exception_handler(Exception, _retry_later)
    app.get("/livez")(webhook.health)
    app.post("/hooks/s3", dependencies=[Depends(webhook.authorise)])(webhook.take_notification)
    return app


def _error_response(_: Request, error: Exception) -> JSONResponse:
    """Respond with the message of the error."""
    return JSONResponse({"error": str(error)}, 422 if isinstance(error, NotificationUnusable) else 500)


def _retry_later(_: Request, error: Exception) -> JSONResponse:
    """Ask the sender to retry while the store is unavailable; the server logs the error itself."""
    return JSONResponse({"error": f"not processed ({type(error).__name__}); send the notification again"}, 503)


def _token(header: str) -> bytes:
    """The token of a request; SNS can only send a user and a password, as given in its URL."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.encode("latin-1")
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(value, validate=True).partition(b":")[2] if scheme.lower() == "basic" else b""
    return b""


async def read_body(request: Request) -> bytes:
    """The body; 413 if it is too large, 408 if it does not arrive in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"a notification has at most {MOST_BYTES} bytes")
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS} s") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the body is incomplete") from error
    return bytes(body)


def _more(words: Sequence[str]) -> list[str]:
    return [f"and {len(words) - MAX_LISTED} more"] if len(words) > MAX_LISTED else []
