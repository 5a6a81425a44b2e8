"""Sends files to a gateway: several at once, again after failures, and never what is there already."""

import asyncio
import base64
import hashlib
import itertools
import math
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from deployments.gateway.upload_answers import DatasetsAnswer, ListedUpload, UploadPage
from tasks.core.data.file_kinds import READY
from tasks.core.data.remarks import shown
from tasks.core.errors import DyeworksError, SettingError
from tasks.core.http import retry_after

AT_ONCE = 4  # files
PATIENCE = 600.0  # seconds of failures, without an answer between them, after which one is the last
FIRST_SECONDS = 15.0  # the same before the first answer: the address may be wrong
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds between tries, doubled each time
MOST_ASKED = 120.0  # of a Retry-After, in seconds
# of an attempt without progress, however long it takes; read: while a slow line drains the socket's buffer
TIMEOUT = httpx.Timeout(60, connect=10, read=300, pool=None)
AGAIN = {408, 425, 429}  # statuses that may be another one later, beside those of a server's fault

A = TypeVar("A", bound=BaseModel)


class GatewaySilent(DyeworksError):
    """The gateway did not answer for a long time."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(
            f"the gateway at {url} does not take uploads ({problem}); run the command again later: what is there "
            "already is not sent again"
        )
        self.url, self.problem = url, problem


class NoGateway(DyeworksError):
    """Something else answers at an address."""

    def __init__(self, response: httpx.Response, problem: str) -> None:
        super().__init__(f"no gateway answers at {response.url}: {problem}; correct --url or DYEWORKS_GATEWAY_URL")
        self.problem = problem


class FileChanged(DyeworksError):
    """A file was changed while it was sent."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was changed while it was sent")
        self.name = name


class UploadRejected(DyeworksError):
    """The gateway takes nothing from this key, or nothing for this dataset."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the gateway refuses uploads: {detail}")
        self.status, self.detail = status, detail


class LocalFile(Protocol):
    """A file to be sent."""

    @property
    def name(self) -> str:
        """Its name in the dataset."""

    @property
    def size(self) -> int:
        """In bytes."""

    def chunks(self) -> Iterator[bytes]:
        """Its content; may be read again."""


@dataclass
class UploadReport:
    """What became of files."""

    sent: int = 0
    sent_bytes: int = 0
    unchanged: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)  # names, and why


class UploadObserver:
    """What is told of an upload under way."""

    def moved(self, size: int) -> None:
        """So many bytes were sent, or are there already; fewer than none have to be sent again."""

    def done(self) -> None:
        """A file is there, or refused."""

    def failed(self, problem: str) -> None:
        """A request failed, and is tried again."""


class UploadClient:
    """Connections to a gateway, open for a block."""

    def __init__(self, url: str, key: str, observer: UploadObserver, patience: float = PATIENCE) -> None:
        self.url, self.observer, self.patience, self.most_bytes = url.rstrip("/"), observer, patience, 0
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=TIMEOUT)
        self._deadline, self._problem = monotonic() + min(FIRST_SECONDS, patience), ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def dataset(self, name: str = "") -> str:
        """The dataset to upload to, the only one where none is named; also reads the gateway's limits.

        Raises:
            UploadRejected: the key may not upload, or none is named and there is not just one.
            NoGateway: the address is another's.
        """
        response = await self._ask("GET", "/uploads")
        if response.has_redirect_location or response.status_code in {404, 405}:
            raise NoGateway(response, _detail(response))
        answer = _parsed(DatasetsAnswer, response)
        self.most_bytes = answer.most_bytes
        if not name and len(answer.datasets) != 1:
            known = ", ".join(answer.datasets) or "none"
            raise UploadRejected(404, f"name a dataset with --dataset; the key's are: {known}")
        return name or answer.datasets[0]

    async def listing(self, dataset: str) -> dict[str, ListedUpload]:
        """The files of a dataset by name; raises UploadRejected."""
        found, after = dict[str, ListedUpload](), ""
        while True:
            page = _parsed(UploadPage, await self._ask("GET", _path(dataset), params={"after": after}))
            found |= {file.name: file for file in page.files}
            after = page.next
            if not after:
                return found

    async def send(self, dataset: str, files: Sequence[LocalFile]) -> UploadReport:
        """Send files that are not there yet, in this order, several at once.

        Raises:
            GatewaySilent, UploadRejected: the rest is not sent.
        """
        report, there, waiting = UploadReport(), await self.listing(dataset), iter(files)

        async def work() -> None:
            for file in waiting:  # shared by all workers
                await self._take(dataset, file, there.get(file.name), report)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return report

    async def end(self, dataset: str) -> None:
        """Say that all is there, so that the ingest starts."""
        _accepted(await self._ask("PUT", _path(dataset, READY)))

    async def _take(self, dataset: str, file: LocalFile, there: ListedUpload | None, report: UploadReport) -> None:
        try:
            if file.size > self.most_bytes:
                report.refused.append((file.name, f"it has more than the {self.most_bytes:,} bytes that are taken"))
            elif await asyncio.to_thread(_is_same, file, there):
                report.unchanged += 1
                self.observer.moved(file.size)
            else:
                await self._send(dataset, file, report)
        except FileChanged:
            report.refused.append((file.name, "it was changed while it was sent"))
        except (OSError, DyeworksError) as error:
            if isinstance(error, GatewaySilent | UploadRejected | SettingError):
                raise
            report.refused.append((file.name, f"it cannot be read: {error}"))
        self.observer.done()

    async def _send(self, dataset: str, file: LocalFile, report: UploadReport) -> None:
        sha256 = await asyncio.to_thread(_hashed, file, "sha256")
        headers = {
            "Content-Digest": f"sha-256=:{base64.b64encode(sha256).decode()}:",
            "Content-Type": "application/octet-stream",
        }
        response = await self._ask("PUT", _path(dataset, file.name), headers=headers, file=file)
        if response.is_success:
            report.sent += 1
            report.sent_bytes += file.size
        elif response.status_code in {401, 403, 404}:
            _accepted(response)
        else:
            report.refused.append((file.name, _detail(response)))

    async def _ask(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        file: LocalFile | None = None,
    ) -> httpx.Response:
        """The answer that no further try would change; raises GatewaySilent."""
        for tries in itertools.count():
            asked, attempt = 0.0, _Attempt(file, self.observer.moved) if file else None
            try:
                response = await self._client.request(
                    method,
                    path,
                    params=params,
                    headers=(headers or {}) | (attempt.headers() if attempt else {}),
                    content=attempt.body() if attempt else None,
                )
            except httpx.LocalProtocolError:  # its text has headers
                raise SettingError("DYEWORKS_UPLOAD_KEY", "no request can be made with it") from None
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            else:
                if response.status_code not in AGAIN and response.status_code < 500:
                    self._deadline, self._problem = math.inf, ""
                    return response
                problem, asked = _detail(response), min(MOST_ASKED, retry_after(response) or 0.0)
            if attempt:
                attempt.take_back()
            self._note(problem)
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2**tries) * random.uniform(0.5, 1)
            await asyncio.sleep(max(wait, asked))
        raise AssertionError("it returns or raises")

    def _note(self, problem: str) -> None:
        """Report a problem once; raises GatewaySilent when it has lasted too long."""
        now = monotonic()
        self._deadline = min(self._deadline, now + self.patience)
        if now > self._deadline:
            raise GatewaySilent(self.url, problem)
        if problem != self._problem:
            self.observer.failed(problem)
        self._problem = problem


class _Attempt:
    """One try to send a file."""

    def __init__(self, file: LocalFile, moved: Callable[[int], None]) -> None:
        self.file, self.moved, self.size, self.sent = file, moved, file.size, 0

    def headers(self) -> dict[str, str]:
        return {"Content-Length": str(self.size)}

    async def body(self) -> AsyncIterator[bytes]:
        """The content; raises FileChanged where that is not as long as was said."""
        for chunk in self.file.chunks():
            if self.sent + len(chunk) > self.size:
                raise FileChanged(self.file.name)
            yield chunk
            self.sent += len(chunk)
            self.moved(len(chunk))
        if self.sent < self.size:
            raise FileChanged(self.file.name)

    def take_back(self) -> None:
        """What was sent has to be sent again."""
        self.moved(-self.sent)


def _is_same(file: LocalFile, there: ListedUpload | None) -> bool:
    """Whether the gateway has a file; its name and size alone don't say so."""
    if there is None or file.size != there.size or not (there.sha256 or there.md5):
        return False
    expected, kind = (there.sha256, "sha256") if there.sha256 else (there.md5, "md5")
    return _hashed(file, kind).hex() == expected


def _hashed(file: LocalFile, kind: str) -> bytes:
    whole = hashlib.new(kind, usedforsecurity=False)
    for chunk in file.chunks():
        whole.update(chunk)
    return whole.digest()


def _path(dataset: str, name: str = "") -> str:
    parts: Iterable[str] = ("uploads", dataset, *(name.split("/") if name else ()))
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _parsed(answer: type[A], response: httpx.Response) -> A:
    """The answer; raises NoGateway, UploadRejected."""
    try:
        return answer.model_validate_json(_accepted(response).content)
    except ValidationError as error:
        raise NoGateway(response, "what answers is something else") from error


def _accepted(response: httpx.Response) -> httpx.Response:
    """The response, if it is none of an error; raises UploadRejected."""
    if not response.is_success:
        raise UploadRejected(response.status_code, _detail(response))
    return response


def _detail(response: httpx.Response) -> str:
    """What a problem says in plain words."""
    if response.has_redirect_location:
        place = response.headers["Location"]
        advice = "; the key was sent unencrypted: replace it, and use the https address"
        to_https = response.url.scheme == "http" and place.lower().startswith("https:")
        return f"it redirects to {shown(place)}{advice if to_https else ''}"
    try:
        detail = response.json()["detail"]
    except (ValueError, LookupError, TypeError):
        detail = f"status {response.status_code}"
    return str(detail)
