"""`/uploads`: files and archives of them, stored and in the outbox before the answer; safe to repeat.

A file is received whole, and checked, before the store sees any of it. `_READY` is not stored: it ends the wait for
more, so that the ingest starts at once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import Annotated, Any, Literal, TypeVar, TypeVarTuple
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request

from deployments.gateway.access import GatewayAccess
from deployments.gateway.archives import ArchiveEntry, ArchiveRefused, UploadArchive
from deployments.gateway.metrics import GatewayMetrics
from deployments.gateway.notifications import content_identity
from deployments.gateway.outbox import Arrival, UploadOutbox
from deployments.gateway.places import Places
from deployments.gateway.received import DiskUnusable, ReceivedFile, received_file
from deployments.gateway.schemas import refusals
from deployments.gateway.subscriptions import Subscriptions
from deployments.gateway.upload_answers import ArchiveAnswer, DatasetsAnswer, LeftOutEntry, UploadAnswer, UploadPage
from deployments.gateway.upload_store import KeptUpload, UploadNameRefused, UploadNameTaken, UploadStore, check_name
from deployments.problems import ApiError
from deployments.request_body import read_body
from tasks.core.access.keys import ApiKey
from tasks.core.config.installation import Settings
from tasks.core.data.file_kinds import is_ready
from tasks.core.installation import Installation
from tasks.core.store.base import MOST_BYTES
from tasks.core.store.documents import digest
from tasks.core.store.s3 import store_errors

FILES_AT_ONCE, ARCHIVES_AT_ONCE = 64, 2  # that are received
OF_ONE_KEY, ARCHIVES_OF_ONE_KEY = 16, 1
THREADS = 8  # that write files and wait for the store
READY_BYTES, READY_SECONDS = 1000, 10.0  # of the body of `_READY`, which nobody reads
MEBIBYTE = 2**20
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
SECURITY: dict[str, Any] = {"security": [{"token": []}, {"password": []}]}  # as OpenAPI describes them
ALREADY: dict[int | str, dict[str, object]] = {
    200: {"model": UploadAnswer, "description": "The same file was there."},
    202: {"model": UploadAnswer, "description": "`_READY`: the ingest starts."},
}
BODY = SECURITY | {"requestBody": {"required": True, "content": BYTES}}

log = logging.getLogger("dyeworks.gateway")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StoreAway(ApiError):
    """The store failed; what was sent has to be sent again."""

    status = 503
    code = "unavailable"

    def __init__(self) -> None:
        super().__init__("the store failed, the log says how; send it again", retry_after=5)


class ArchiveUnusable(ApiError):
    """An archive is damaged or dangerous."""

    status = 422
    code = "invalid_archive"


class UploadNameConvertor(PathConvertor):
    """A path with all that a client may send: that of Starlette cuts a newline at its end."""

    regex = "(?s:.*)"


register_url_convertor("upload_name", UploadNameConvertor())


class UploadRoutes:
    """The routes."""

    def __init__(
        self,
        settings: Settings,
        installation: Callable[[], Installation],
        access: GatewayAccess,
        subscriptions: Subscriptions,
        outbox: UploadOutbox,
        metrics: GatewayMetrics,
    ) -> None:
        self.store, self.access, self.subscriptions = UploadStore(installation), access, subscriptions
        self.outbox, self.metrics = outbox, metrics
        self.most, self.most_archive = settings.upload_mib * MEBIBYTE, settings.archive_mib * MEBIBYTE
        self.folder = settings.cache.absolute() / "received"
        self.pool = ThreadPoolExecutor(THREADS, "uploads")
        self.files, self.archives = Places(FILES_AT_ONCE, OF_ONE_KEY), Places(ARCHIVES_AT_ONCE, ARCHIVES_OF_ONE_KEY)
        self.problem = ""  # of the gateway's disk; empty: none
        self.store_problem = ""  # the same of the store, as writing found it last

    def router(self) -> APIRouter:
        """The routes, to be included in an application."""
        router = APIRouter(prefix="/uploads", tags=["uploads"])
        router.get("", openapi_extra=SECURITY, responses=refusals(401, 403, 503))(self.list_datasets)
        router.get("/{dataset}", openapi_extra=SECURITY, responses=refusals(400, 401, 403, 404, 503))(self.list_files)
        faults = refusals(400, 401, 403, 404, 408, 413, 422, 503, 507)
        router.put(
            "/{dataset}/{name:upload_name}",
            status_code=201,
            response_model=UploadAnswer,
            responses=ALREADY | refusals(409) | faults,
            openapi_extra=BODY,
        )(self.take_file)
        router.post("/{dataset}/archive", openapi_extra=BODY, responses=faults)(self.take_archive)
        return router

    async def list_datasets(self, request: Request) -> DatasetsAnswer:
        """List the datasets to which the key may upload."""
        key = self.access.uploader(request)
        datasets = self.subscriptions.of(key)
        return DatasetsAnswer(datasets=datasets, most_bytes=self.most, most_archive_bytes=self.most_archive)

    async def list_files(
        self, request: Request, dataset: str, after: Annotated[str, Query(max_length=MOST_BYTES)] = ""
    ) -> UploadPage:
        """List the uploads of a dataset with their hashes, page by page."""
        self._admit(request, dataset)
        return await self._work(self.store.page, dataset, after)

    async def take_file(self, request: Request, dataset: str, name: str) -> JSONResponse:
        """Store a file; 201 if it is new, 200 if the same is there. `_READY` starts the ingest, with a 202."""
        key = self._admit(request, dataset)
        _require_text(request, name)
        check_name(dataset, name)
        if is_ready(name):
            await read_body(request, READY_BYTES, READY_SECONDS)
            await self.outbox.add([_ready(dataset, name)])
            return JSONResponse(UploadAnswer(dataset=dataset, name=name, status="ready").model_dump(), 202)
        with self.files.taken(key.id):
            async with self._received(request, self.most) as received:
                kept = await self._work(self.store.keep, dataset, name, received)
                await self._record(dataset, [kept])
                answer = UploadAnswer(
                    dataset=dataset, name=name, status=_status(kept), size=received.size, sha256=received.sha256
                )
                return JSONResponse(answer.model_dump(), 201 if kept.is_new else 200)

    async def take_archive(self, request: Request, dataset: str) -> ArchiveAnswer:
        """Store the files of a zip archive one by one; a dangerous one is refused before anything is stored."""
        key = self._admit(request, dataset)
        with self.archives.taken(key.id):
            async with self._received(request, self.most_archive) as received:
                answer, kept = ArchiveAnswer(dataset=dataset), list[KeptUpload]()
                try:
                    archive = await self._work(UploadArchive, received.file, self.most, f"uploads/{dataset}/")
                    await self._take_entries(archive, answer, kept)
                except ArchiveRefused as error:
                    raise ArchiveUnusable(f"{error}; {_stored(kept)}") from error
                except ApiError as error:
                    error.args = (f"{error}; {_stored(kept)}",)
                    raise
                finally:
                    await self._record(dataset, kept)
                await self.outbox.add([_ready(dataset, one.name) for one in archive.entries if is_ready(one.name)])
                return answer

    async def _take_entries(self, archive: UploadArchive, answer: ArchiveAnswer, kept: list[KeptUpload]) -> None:
        for entry in archive.entries:
            if entry.left_out:
                answer.left_out.append(LeftOutEntry(name=entry.name, reason=entry.left_out))
            elif not is_ready(entry.name):
                try:
                    kept.append(await self._work(self._keep_entry, answer.dataset, archive, entry))
                except UploadNameTaken as error:
                    answer.left_out.append(LeftOutEntry(name=entry.name, reason=str(error)))
                    continue
                (answer.stored if kept[-1].is_new else answer.unchanged).append(entry.name)

    def _keep_entry(self, dataset: str, archive: UploadArchive, entry: ArchiveEntry) -> KeptUpload:
        with closing(ReceivedFile(self.folder, self.most)) as received:
            for chunk in archive.chunks(entry):
                received.write(chunk)
            return self.store.keep(dataset, entry.name, received)

    def _admit(self, request: Request, dataset: str) -> ApiKey:
        """Whose request it is; raises what `uploader` and `require` do, before the body is read."""
        key = self.access.uploader(request)
        self.subscriptions.require(dataset, key)
        return key

    @asynccontextmanager
    async def _received(self, request: Request, most: int) -> AsyncIterator[ReceivedFile]:
        """The body; why the disk does not take it is logged once while it lasts."""
        try:
            async with received_file(request, most, self.folder, self.pool) as received:
                self.problem = ""
                yield received
        except DiskUnusable as error:
            if not self.problem:
                log.error("uploads cannot be received: %s", error.reason)
            self.problem = error.reason
            raise

    async def _record(self, dataset: str, kept: Sequence[KeptUpload]) -> None:
        """Put what is stored into the outbox, what was unchanged too: an earlier request may have failed there.

        Content that was there before, and has come back since, is known by then: it arrives once more, by the time
        at which it was written.
        """
        if kept:
            self.store_problem = ""
        for one in kept:
            self.metrics.uploads.labels(_status(one)).inc()
            self.metrics.upload_bytes.inc(one.listed.size if one.is_new else 0)
        new = await self.outbox.add([_arrival(dataset, one) for one in kept])
        known = {_arrival(dataset, one): one for one, is_new in zip(kept, new, strict=True) if not is_new}
        arrived = await self.outbox.arrived([one.identity for one in known])
        await self.outbox.add(
            [
                arrival._replace(identity=digest("written", arrival.identity, one.listed.time.isoformat()), content="")
                for arrival, one in known.items()
                if one.is_new or one.listed.time.timestamp() > arrived[arrival.identity]
            ]
        )

    async def _work(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Do work in a thread; raises StoreAway for what a store raises, which is logged once while it lasts."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work, *args)
        except (ApiError, ArchiveRefused):
            raise
        except store_errors() as error:
            if not self.store_problem:
                log.error("uploads cannot be stored or listed: %s", error)
            self.store_problem = str(error)
            raise StoreAway from error


def _require_text(request: Request, name: str) -> None:
    """Raise UploadNameRefused for a path that is not UTF-8, of which the server has replaced what it cannot read."""
    try:
        unquote_to_bytes(request.scope["raw_path"]).decode()
    except UnicodeDecodeError as error:
        raise UploadNameRefused(name, "it is not UTF-8 text") from error


def _stored(kept: Sequence[KeptUpload]) -> str:
    return f"{len(kept)} files before it are stored" if kept else "nothing was stored"


def _status(kept: KeptUpload) -> Literal["stored", "unchanged"]:
    return "stored" if kept.is_new else "unchanged"


def _arrival(dataset: str, kept: KeptUpload) -> Arrival:
    """Known by its content, so that the store's own notification of it starts nothing."""
    name = kept.listed.key.removeprefix(f"uploads/{dataset}/")
    content = content_identity(dataset, name, kept.listed.tag)
    return Arrival(dataset, name, content, content)


def _ready(dataset: str, name: str) -> Arrival:
    return Arrival(dataset, name, digest("ready", uuid4().hex), ready=True)
