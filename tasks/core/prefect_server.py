"""The Prefect server that events are sent to, with the credentials that Prefect's own client would send.

Public processes do not import Prefect, so its rules (3.8.8) are repeated here; `tests/unit/core/test_prefect_server.py`
compares them with Prefect's client. A setting is looked up in the environment, `.env`, `prefect.toml`, `pyproject.toml`
and the active profile, in this order; the first that has it counts, even if it is empty there.
"""

import base64
import json
import re
import ssl
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar
from uuid import uuid4

import dotenv
import httpx
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from tasks.core.errors import SettingError
from tasks.core.http import repeat

T = TypeVar("T")
API_VERSION = "0.8.4"  # of Prefect 3.8.8's REST API
MANAGED = {"user-agent", "prefect-csrf-token", "prefect-csrf-client"}  # headers that Prefect does not let be replaced
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # the name of a header
PACKAGED: dict[str, object] = {  # Prefect's own profiles, where there is no file of profiles
    "active": "ephemeral",
    "profiles": {"local": {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}},
}


def _decoded(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        raise ValueError('no JSON object of names and values, such as {"X-Tenant": "cloth"}') from None


def _sendable(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ValueError("no HTTP header can carry it: it has a line break, an outer space or a character beyond ASCII")
    return secret


def _named(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if not all(map(TOKEN.fullmatch, headers)):
        raise ValueError("it has a name that no HTTP header can have")
    return headers


HeaderValue = Annotated[SecretStr, AfterValidator(_sendable)]


class ServerSettings(BaseModel):
    """The settings of Prefect's client that decide where and how a request is sent."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    url: str = Field("", alias="PREFECT_API_URL")
    auth_string: SecretStr = Field(SecretStr(""), alias="PREFECT_API_AUTH_STRING")
    key: HeaderValue = Field(SecretStr(""), alias="PREFECT_API_KEY")
    custom_headers: Annotated[dict[str, HeaderValue], BeforeValidator(_decoded), AfterValidator(_named)] = Field(
        {}, alias="PREFECT_CLIENT_CUSTOM_HEADERS"
    )
    certificates: str = Field("", alias="PREFECT_API_SSL_CERT_FILE")
    unverified: bool = Field(False, alias="PREFECT_API_TLS_INSECURE_SKIP_VERIFY")

    def headers(self) -> httpx.Headers:
        """The headers of every request: a custom one beats the auth string, which beats the key."""
        headers = httpx.Headers({"X-PREFECT-API-VERSION": API_VERSION})
        if auth := self.auth_string.get_secret_value():
            headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
        elif key := self.key.get_secret_value():
            headers["Authorization"] = f"Bearer {key}"
        for name, value in self.custom_headers.items():
            if name.lower() not in MANAGED:
                headers[name] = value.get_secret_value()
        return headers

    def credentials(self) -> str:
        """The setting that the header Authorization is made of; empty without one."""
        if any(name.lower() == "authorization" for name in self.custom_headers):
            return "PREFECT_CLIENT_CUSTOM_HEADERS"
        if self.auth_string.get_secret_value():
            return "PREFECT_API_AUTH_STRING"
        return "PREFECT_API_KEY" if self.key.get_secret_value() else ""

    def ssl_context(self) -> ssl.SSLContext:
        """How the server's certificate is checked; raises SettingError."""
        if self.unverified:
            return httpx.create_ssl_context(verify=False)
        if not self.certificates:
            return httpx.create_ssl_context(trust_env=False)
        try:
            return ssl.create_default_context(cafile=self.certificates)
        except OSError as error:  # ssl.SSLError is one
            problem = f"{self.certificates} is no readable file of certificates ({error.strerror or error})"
            raise SettingError("PREFECT_API_SSL_CERT_FILE", problem) from error


CERTIFICATES = "PREFECT_API_SSL_CERT_FILE"
TABLES = {  # where prefect.toml and pyproject.toml hold each setting
    "PREFECT_API_URL": ("api", "url"),
    "PREFECT_API_AUTH_STRING": ("api", "auth_string"),
    "PREFECT_API_KEY": ("api", "key"),
    "PREFECT_CLIENT_CUSTOM_HEADERS": ("client", "custom_headers"),
    "PREFECT_API_SSL_CERT_FILE": ("api", "ssl_cert_file"),
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": ("api", "tls_insecure_skip_verify"),
}


class Source(NamedTuple):
    """Settings that are found in one place, and its name."""

    place: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class PrefectServer:
    """The Prefect server of a process. Its settings are read for each connection: a faulty one stops no process."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: Path | None = None  # the working folder, where Prefect looks for .env, prefect.toml and pyproject.toml

    def connect(self) -> "ServerConnection":
        """A connection to the server.

        Raises:
            SettingError: no server is configured, or a setting cannot be used.
        """
        sources = self._sources()
        found = {name: source for source in reversed(sources) for name in TABLES if name in source.values}
        settings = _parsed(found)
        if not settings.url:
            raise SettingError("PREFECT_API_URL", f"not set, neither in the environment nor in {sources[-1].place}")
        credentials = settings.credentials()
        return ServerConnection(settings, f"{credentials} of {found[credentials].place}" if credentials else "")

    def _sources(self) -> list[Source]:
        """From the first that counts to the last."""
        environment = {name.upper(): value for name, value in self.environment.items()}
        files = [self._dotenv(), self._toml("prefect.toml"), self._toml("pyproject.toml", "tool", "prefect")]
        chosen = next((path for file in files if (path := file.values.get("PREFECT_PROFILES_PATH"))), "")
        profile = _profile(self._profiles(str(chosen)), self.environment.get("PREFECT_PROFILE", ""))
        if "SSL_CERT_FILE" in environment:  # the default of Prefect's setting
            profile = profile._replace(values={CERTIFICATES: environment["SSL_CERT_FILE"], **profile.values})
        return [Source("the environment", environment), *files, profile]

    def _dotenv(self) -> Source:
        path = (self.folder or Path()) / ".env"
        if self.folder is None or not _read(path, path.is_file):
            return Source(".env", {})
        values = _read(path, lambda: dotenv.dotenv_values(path, encoding="utf-8"))
        return Source(str(path), {name.upper(): value for name, value in values.items() if value is not None})

    def _toml(self, name: str, *tables: str) -> Source:
        content = _toml(self.folder / name) if self.folder else {}
        for table in tables:
            content = _table(content, table)
        values = {name: _table(content, table).get(key) for name, (table, key) in TABLES.items()}
        values["PREFECT_PROFILES_PATH"] = content.get("profiles_path")
        return Source(name, {name: value for name, value in values.items() if value is not None})

    def _profiles(self, chosen: str) -> Path | None:
        """The file of profiles; None for those that come with Prefect."""
        folder, home = self.folder or Path(), self.environment.get("PREFECT_HOME")
        if chosen := self.environment.get("PREFECT_PROFILES_PATH") or chosen:
            return folder / chosen
        if home:
            return folder / home / "profiles.toml"
        path = Path(self.environment.get("HOME", ""), ".prefect", "profiles.toml")
        return path if path.is_absolute() and _read(path, path.exists) else None


class ServerConnection:
    """An open connection to the Prefect server; the proxies of the environment are used, as Prefect does."""

    def __init__(self, settings: ServerSettings, credentials: str) -> None:
        self.credentials = credentials  # the setting that they come from, and where it is set
        verify = settings.ssl_context()
        url = _url(settings.url)
        self.client = httpx.Client(base_url=url, headers=settings.headers(), verify=verify, follow_redirects=True)

    def __enter__(self) -> "ServerConnection":
        self.client.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()

    def get(self, path: str, seconds: float) -> httpx.Response:
        """Get a document, with retries for so many seconds; raises httpx.HTTPError."""
        return repeat(lambda left: self.client.get(path, timeout=left), seconds)

    def post(self, path: str, body: object, seconds: float) -> httpx.Response:
        """Post a JSON document, with retries for so many seconds; raises httpx.HTTPError."""

        def send(left: float) -> httpx.Response:
            return self.client.post(path, json=body, timeout=left)

        answer = repeat(send, seconds)
        if answer.status_code != httpx.codes.FORBIDDEN or "CSRF token" not in answer.text:
            return answer
        token = self._take_csrf_token()
        if token.is_success:
            return repeat(send, seconds)
        return token if token.status_code == httpx.codes.UNAUTHORIZED else answer

    def _take_csrf_token(self) -> httpx.Response:
        """Get the token that a server with CSRF protection demands with each change; later requests send it."""
        client = str(uuid4())
        answer = self.client.get("/csrf-token", params={"client": client})
        with suppress(LookupError, TypeError, ValueError):  # there is none
            self.client.headers.update({"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": client})
        return answer

    def advice(self, status: int) -> str:
        """What to do about a response with this status; empty where nothing is known."""
        if status not in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return ""
        none = "set PREFECT_API_KEY for Prefect Cloud, PREFECT_API_AUTH_STRING for a server with a password"
        return f"; check {self.credentials}" if self.credentials else f"; no credentials were sent: {none}"


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:  # its message could show a password
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise SettingError("PREFECT_API_URL", "it is no valid URL, such as https://prefect.example.org/api")
    return url


def _parsed(found: Mapping[str, Source]) -> ServerSettings:
    try:
        return ServerSettings.model_validate({name: source.values[name] for name, source in found.items()})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name, *inner = map(str, fault["loc"])
        where = ": ".join([found[name].place, *inner])
        raise SettingError(name, f"cannot be used ({where}): {fault['msg'].removeprefix('Value error, ')}") from None


def _profile(path: Path | None, name: str) -> Source:
    """The profile of this name, or the active one of the file."""
    content = PACKAGED if path is None else _toml(path)
    active = name or content.get("active")
    place = f"profile {active!r} of {path or 'Prefect'}" if active else str(path)
    return Source(place, _table(_table(content, "profiles"), str(active)))


def _toml(path: Path) -> Mapping[str, object]:
    """The content of a TOML file; nothing where there is none."""
    try:
        return _read(path, lambda: tomllib.loads(path.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _read(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:  # of the encoding or of TOML
        problem = f"cannot be read ({error}), where Prefect's settings are looked up; correct or remove it"
        raise SettingError(str(path), problem) from error


def _table(content: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}
