"""The upload webhook: an S3 notification leads to an ingest. Without torch in its process.

`POST /notifications/s3` with `Authorization: Bearer <DYEWORKS_WEBHOOK_TOKEN>`. A notification that was
seen before changes nothing; one whose event could not be sent is answered 503, so that the sender repeats it.
"""

import secrets
from collections.abc import Iterator
from urllib.parse import unquote_plus

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import Request

from deployments.exposure import ExposureGuard
from tasks.core.documents import digest
from tasks.core.errors import DyeworksError, EventUndelivered, ObjectExists
from tasks.core.events import Uploaded, emit, make_event
from tasks.core.settings import Settings, get_settings
from tasks.core.store import Store, open_store


class Item(BaseModel):
    """The object of a record."""

    key: str
    version: str = Field("", alias="versionId")
    etag: str = Field("", alias="eTag")
    sequencer: str = ""


class Bucket(BaseModel):
    """The bucket of a record."""

    name: str


class Place(BaseModel):
    """Where the object lies."""

    bucket: Bucket
    object: Item


class Record(BaseModel):
    """One record of an S3 event notification."""

    s3: Place


class Notification(BaseModel):
    """An S3 event notification, structure version 2."""

    records: list[Record] = Field(alias="Records")


app = FastAPI(title="dyeworks webhook", docs_url=None, redoc_url=None)
app.add_middleware(ExposureGuard, setting="DYEWORKS_WEBHOOK_TOKEN", secret=lambda: get_settings().webhook_token)


@app.exception_handler(DyeworksError)
def explain(_: Request, error: Exception) -> JSONResponse:
    """Tell an error in its own words; an event that waits in the outbox asks to be called again."""
    return JSONResponse({"error": str(error)}, 503 if isinstance(error, EventUndelivered) else 500)


def authorise(authorization: str = Header("")) -> Settings:
    """The settings, for a caller with the right token; 401 for any other."""
    settings = get_settings()
    token = settings.webhook_token.get_secret_value()
    if not token or not secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "the Authorization header must be 'Bearer' and the webhook's token")
    return settings


@app.get("/health")
def health() -> dict[str, str]:
    """Whether the process runs."""
    return {"status": "ok"}


@app.post("/notifications/s3", status_code=202)
def take_notification(body: Notification, settings: Settings = Depends(authorise)) -> dict[str, int]:
    """Emit `dyeworks.data.uploaded` for each dataset that the records add to."""
    store = open_store(settings.store)
    fresh: dict[str, list[str]] = {}
    for record in body.records:
        identity = digest(record.s3.bucket.name, record.s3.object.model_dump_json())
        for dataset in _datasets(record):
            if not store.exists(_mark(identity)):
                fresh.setdefault(dataset, []).append(identity)
    for dataset, identities in fresh.items():
        reason = f"{len(identities)} objects were uploaded"
        key = digest(dataset, *sorted(identities))
        emit(
            store,
            make_event("dyeworks.data.uploaded", settings.model, Uploaded(reason=reason, dataset=dataset), key=key),
        )
        _remember(store, identities)
    return {"new": sum(map(len, fresh.values())), "records": len(body.records)}


def _mark(identity: str) -> str:
    return f"notifications/{identity}"


def _remember(store: Store, identities: list[str]) -> None:
    for identity in identities:
        try:
            store.create(_mark(identity), b"")
        except ObjectExists:  # the same notification, delivered twice at once
            continue


def _datasets(record: Record) -> Iterator[str]:
    """The dataset in `[prefix/]uploads/<dataset>/<file>`; keys are form-encoded by AWS and MinIO."""
    parts = unquote_plus(record.s3.object.key).split("/")
    if "uploads" in parts[:-2]:
        yield parts[parts.index("uploads") + 1]
