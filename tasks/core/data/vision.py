"""A vision server that speaks OpenAI's chat protocol: one picture is sent, one line of text comes back."""

import asyncio
import base64
import threading
from dataclasses import astuple, dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, SecretStr, ValidationError

from tasks.core.config.captioning import CaptioningSpec
from tasks.core.data.caption_tables import clean, hides_characters
from tasks.core.data.remarks import shown
from tasks.core.errors import DyeworksError, SettingError
from tasks.core.http import AnswerTooLong, ask_bounded, repeat

MOST_BYTES = 2**18  # of an answer
MOST_CHARACTERS = 1000  # of a caption
BUSY = frozenset({408, 429, 500, 502, 503, 504})  # asked again
CLOSED = frozenset({401, 403, 404, 405})  # the key, the address or the model: no other picture fares better
CUT_OFF = "length"  # why an answer ended


class DescriptionFailed(DyeworksError):
    """A picture has no description that can be used."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class VisionServerUnusable(DescriptionFailed):
    """The server does not answer, or is not willing to; `closed`: nor would it be for any other picture."""

    def __init__(self, reason: str, closed: bool = False) -> None:
        super().__init__(reason)
        self.closed = closed


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(0, ge=0, le=10**9)
    completion_tokens: int = Field(0, ge=0, le=10**9)


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class _Metered(BaseModel):
    usage: _Usage


@dataclass(frozen=True)
class Consumption:
    """What was asked of a server, and the tokens that it has counted; `unmetered` answers came without a count."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    unmetered: int = 0

    def __add__(self, other: "Consumption") -> "Consumption":
        return Consumption(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class VisionClient:
    """Asks about pictures, from several threads."""

    def __init__(self, spec: CaptioningSpec, key: SecretStr) -> None:
        """Raises SettingError for a key that no header can hold, or that would cross a network in clear text."""
        check_server(spec.url, key.get_secret_value())
        self.spec, self._consumed, self._lock = spec, Consumption(), threading.Lock()
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key.get_secret_value() else {}
        self._certificates = httpx.create_ssl_context()

    def take_consumption(self) -> Consumption:
        """What was consumed since this was last asked."""
        with self._lock:
            taken, self._consumed = self._consumed, Consumption()
        return taken

    def describe(self, jpeg: bytes, seconds: float) -> str:
        """The model's line about a picture, tried again within so many seconds; raises DescriptionFailed."""
        body, spec = request_body(self.spec, jpeg), self.spec
        within = min(seconds, spec.attempts * spec.timeout)
        try:
            response = repeat(lambda left: self._send(body, left), within, tries=spec.attempts, busy=BUSY)
        except httpx.HTTPError as error:
            raise VisionServerUnusable(f"{spec.url}: {shown(str(error)) or type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            raise _refused(spec.url, response)
        self._meter(response.content)
        return line_of(response.content)

    def _send(self, body: dict[str, object], left: float) -> httpx.Response:
        """One attempt; its answer was read as far as it may be."""
        self._count(Consumption(requests=1))
        try:
            return asyncio.run(self._ask(body, max(min(self.spec.timeout, left), 0.001)))
        except AnswerTooLong as error:
            raise DescriptionFailed(str(error)) from error

    async def _ask(self, body: dict[str, object], seconds: float) -> httpx.Response:
        url = f"{self.spec.url}/chat/completions"
        environment = url.startswith("https:")  # no proxy reads what is sent in clear text
        async with httpx.AsyncClient(headers=self._headers, verify=self._certificates, trust_env=environment) as client:
            return await ask_bounded(client, "POST", url, MOST_BYTES, seconds, json=body)

    def _meter(self, data: bytes) -> None:
        try:
            usage = _Metered.model_validate_json(data).usage
            self._count(Consumption(0, usage.prompt_tokens, usage.completion_tokens))
        except ValidationError:
            self._count(Consumption(unmetered=1))

    def _count(self, more: Consumption) -> None:
        with self._lock:
            self._consumed += more


def _refused(url: str, response: httpx.Response) -> DescriptionFailed:
    status = response.status_code
    problem = f"{url} answered {status} {response.reason_phrase}".rstrip()
    return VisionServerUnusable(problem, status in CLOSED) if status in BUSY | CLOSED else DescriptionFailed(problem)


def request_body(spec: CaptioningSpec, jpeg: bytes) -> dict[str, object]:
    """The request about a picture, of what all of these servers understand."""
    picture = {"url": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"}
    content = [{"type": "text", "text": spec.prompt}, {"type": "image_url", "image_url": picture}]
    messages = [{"role": "user", "content": content}]
    return {"model": spec.model, "messages": messages, "max_tokens": spec.max_tokens, "temperature": 0}


def line_of(data: bytes) -> str:
    """The text of an answer as one clean line; raises DescriptionFailed."""
    try:
        choice = _Answer.model_validate_json(data, strict=True).choices[0]
    except ValidationError as error:
        raise DescriptionFailed("the answer is no chat completion") from error
    text = choice.message.content or ""
    if choice.finish_reason == CUT_OFF:
        raise DescriptionFailed("the answer was cut off; raise captioning.max_tokens")
    if hides_characters(text):
        raise DescriptionFailed("the answer holds control or invisible characters")
    line = clean(text)
    if not line:
        raise DescriptionFailed("the answer is empty")
    if len(line) > MOST_CHARACTERS:
        raise DescriptionFailed(f"the answer has more than {MOST_CHARACTERS:,} characters")
    return line


def check_server(url: str, key: str) -> None:
    """Raise SettingError for an address that cannot be asked, and for a key that cannot be sent there."""
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SettingError("captioning.url", str(error)) from error
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingError("DYEWORKS_CAPTION_KEY", "contains a space or an invalid character; set it again")
    parts = urlsplit(url)
    if key and parts.scheme == "http" and not _is_near(parts.hostname or ""):
        problem = f"the key would cross the network to {parts.hostname} in clear text"
        advice = "use https, or a loopback or private address instead of a name"
        raise SettingError("captioning.url", f"{problem}; {advice}")


def _is_near(host: str) -> bool:
    """Whether it is this machine, or an address of a private network; a name proves neither."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_private
