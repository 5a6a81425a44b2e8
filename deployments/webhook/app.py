"""The upload webhook: a notification of an object store leads to an ingest. Without torch in its process.

`POST /notifications/s3` with `Authorization: Bearer <DYEWORKS_WEBHOOK_TOKEN>`, or Basic with the token as the password.
A notification that was seen before changes nothing. Its events are in the outbox before the answer, and are sent after.
"""

import asyncio
import base64
import binascii
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect, Request

from deployments.exposure import ExposureGuard
from deployments.webhook.notifications import NotificationUnusable, Reading, StoreLocation, read_notification
from deployments.webhook.sender import Sender
from tasks.core.config.installation import Settings
from tasks.core.errors import DyeworksError, ObjectExists
from tasks.core.events import Uploaded, upload_event
from tasks.core.outbox import queue
from tasks.core.store import Store, open_store
from tasks.core.store.documents import digest

MOST_BYTES = 1_000_000  # of a body; 256 KiB is the most that SNS and EventBridge send
BODY_SECONDS = 30  # for a body to come in
MOST_WORDS, MOST_LETTERS = 20, 100  # that an answer lists, and names of each

log = logging.getLogger("dyeworks.webhook")


class Webhook:
    """The receiver: its settings, its store, which is opened at the first need, and what sends its events."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sender = Sender(lambda: self.store)

    @cached_property
    def store(self) -> Store:
        """The store; raises StoreUnusable, and tries again when it is asked for again."""
        return open_store(self.settings.store)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Send events beside the server."""
        sending = asyncio.create_task(self.sender.run())
        yield
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    async def authorise(self, request: Request) -> None:
        """Let a caller with the right token in; 401 for any other. The body is not read yet."""
        token = self.settings.webhook_token.get_secret_value()
        if not token or not secrets.compare_digest(_shown(request.headers.get("Authorization", "")), token.encode()):
            expected = "'Bearer' and the webhook's token, or 'Basic' with it as the password"
            raise HTTPException(401, f"the Authorization header must be {expected}", {"WWW-Authenticate": "Bearer"})

    def health(self) -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    async def take_notification(self, request: Request) -> JSONResponse:
        """Queue `dyeworks.data.uploaded` for each dataset that the uploads add to; 202, or 200 when there are none.

        The answer says what was left out: `ignored` is no upload into this store, `bad` cannot be read.
        """
        reading = read_notification(await read_body(request))
        records = len(reading.uploads) + len(reading.ignored) + len(reading.bad)
        new = await asyncio.to_thread(self._take, reading) if reading.uploads else 0
        if new:
            self.sender.wake()
        lists = {name: words for name, words in (("ignored", reading.ignored), ("bad", reading.bad)) if words}
        if lists:
            log.info("notification: %r", {name: words[:MOST_WORDS] for name, words in lists.items()})
        answer: dict[str, object] = {"new": new, "records": records}
        answer |= {name: [*words[:MOST_WORDS], *_more(words)] for name, words in lists.items()}
        return JSONResponse(answer, 202 if reading.uploads else 422 if reading.bad else 200)

    def _take(self, reading: Reading) -> int:
        """Queue an event for each dataset; how many uploads are new. What lies elsewhere is added to `ignored`."""
        store, place = self.store, StoreLocation.of(self.settings.store)
        fresh: dict[str, list[str]] = {}
        for bucket, key, identity in dict.fromkeys(reading.uploads):
            if place.bucket not in {"", bucket}:
                reading.ignored.append(f"{key[:MOST_LETTERS]}: bucket {bucket[:MOST_LETTERS]} is not the store's")
            elif not (dataset := place.dataset(key)):
                reading.ignored.append(f"{key[:MOST_LETTERS]}: it lies outside of uploads/<dataset>/ of the store")
            elif not store.exists(_mark(identity)):
                fresh.setdefault(dataset, []).append(identity)
        for dataset, identities in fresh.items():
            payload = Uploaded(reason=f"{len(identities)} objects were uploaded", dataset=dataset)
            queue(store, upload_event(payload, key=digest(dataset, *sorted(identities))))
            _remember(store, identities)  # after the event: cut off in between, the sender's repetition finds it again
        return sum(map(len, fresh.values()))


def create_app(settings: Settings) -> FastAPI:
    """The application of an installation."""
    webhook = Webhook(settings)
    app = FastAPI(title="dyeworks webhook", docs_url=None, redoc_url=None, openapi_url=None, lifespan=webhook.lifespan)
    app.add_middleware(ExposureGuard, setting="DYEWORKS_WEBHOOK_TOKEN", secret=lambda: settings.webhook_token)
    app.add_exception_handler(DyeworksError, _explain)
    app.add_exception_handler(Exception, _ask_again)
    app.get("/health")(webhook.health)
    app.post("/notifications/s3", dependencies=[Depends(webhook.authorise)])(webhook.take_notification)
    return app


def _explain(_: Request, error: Exception) -> JSONResponse:
    """Answer an error in its own words."""
    return JSONResponse({"error": str(error)}, 422 if isinstance(error, NotificationUnusable) else 500)


def _ask_again(_: Request, error: Exception) -> JSONResponse:
    """Ask for the notification again where the store is away; the error itself is logged by the server."""
    return JSONResponse({"error": f"not taken ({type(error).__name__}); send the notification again"}, 503)


def _shown(header: str) -> bytes:
    """The token that a caller shows; SNS can only send a user and a password, as they stand in its URL."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.encode("latin-1")
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(value, validate=True).partition(b":")[2] if scheme.lower() == "basic" else b""
    return b""


async def read_body(request: Request) -> bytes:
    """The body; 413 when it is longer than a notification can be, 408 when it does not come in."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"a notification has at most {MOST_BYTES} bytes")
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not come in within {BODY_SECONDS} s") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the body was cut off") from error
    return bytes(body)


def _more(words: Sequence[str]) -> list[str]:
    return [f"and {len(words) - MOST_WORDS} more"] if len(words) > MOST_WORDS else []


def _mark(identity: str) -> str:
    return f"notifications/{identity}"


def _remember(store: Store, identities: list[str]) -> None:
    for identity in identities:
        with suppress(ObjectExists):  # the same notification, delivered twice at once
            store.create(_mark(identity), b"")
