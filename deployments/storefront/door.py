"""The door: who sends a request, and may they? API keys, signed session cookies, limits.

Who is asking decides what a request counts as. With a key, the sessions that its owner names in `user` count. Without
one, nothing that a client invents does: its session is that of a cookie which was signed here, and an address has few
of them a day (`sessions.py`); its votes count once an address.
"""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.addresses import client_key
from deployments.problems import Forbidden, Unauthorized
from deployments.storefront.sessions import Sessions
from tasks.core.access.errors import KeyRejected, KeysUnread
from tasks.core.access.keys import ApiKey, KeyRing
from tasks.core.access.limits import Kind, RateLimits
from tasks.core.access.roles import Scope as KeyScope
from tasks.core.access.roles import scopes_of
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig

COOKIE = "dyw_session"
YEAR = 365 * 24 * 3600  # seconds
PAGE = "/shop"
KEY_BEGINS = "dyw_"
NO_KEY = "none"  # what clients send that cannot do without a key; it counts as none
IMPERSONAL: frozenset[KeyScope] = frozenset(("read", "metrics"))  # no session is assigned for these


class HttpRequest(Protocol):
    """What is read of a request: Starlette's has it, and Gradio's."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by their names in lower case."""

    @property
    def client(self) -> "Peer | None":
        """Who has sent it; None where the server does not know."""


class Peer(Protocol):
    """The other end of a connection."""

    @property
    def host(self) -> str:
        """Its address."""


@dataclass(frozen=True)
class Visitor:
    """Who sends a request; `session` and `voter` are to be hashed before they are stored or logged."""

    key: ApiKey | None
    session: str
    voter: str  # votes of one voter count once
    address: str  # of IPv6: the network of 64 bits
    trusted: bool  # whether the address is one of DYEWORKS_TRUSTED_ADDRESSES


class CookieSigner:
    """Makes and checks the values of session cookies."""

    def __init__(self, key: str) -> None:
        self.signer = TimestampSigner(key, salt=COOKIE, digest_method=sha256)

    def issue(self) -> str:
        """The value of a new session's cookie."""
        return self.signer.sign(secrets.token_urlsafe(16)).decode()

    def read(self, headers: Mapping[str, str]) -> str:
        """The session of a request's cookie; empty without one that was signed here within a year."""
        try:
            return self.signer.unsign(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""), YEAR).decode()
        except BadSignature:
            return ""


class Door:
    """Admits requests to the storefront; thread-safe, and never waits for the store.

    A thread of the owner calls `keys.refresh`; before its first success a request with a key raises KeysUnread.

    Raises:
        SettingError: a limit or the trusted addresses cannot be parsed.
    """

    def __init__(self, settings: Settings) -> None:
        self.keys = KeyRing()
        self.sessions = Sessions(settings.trusted_addresses)
        self.limits = RateLimits(settings.limit_key, settings.limit_address, settings.limit_session)
        self.cookies = CookieSigner(settings.session_key.get_secret_value())
        self.lock = threading.Lock()

    def admit(
        self,
        http: HttpRequest,
        model: ModelConfig | None,
        scope: KeyScope,
        user: str = "",
        pictures: int = 0,
        page: bool = False,
    ) -> Visitor:
        """The sender of a request that is allowed, with so many pictures counted.

        Args:
            model: None for a request about no single model, such as a list of them.
            user: the session that the request names.
            page: whether it comes from the page.

        Raises:
            Unauthorized: it needs a key, or its key is not valid, needed or not.
            Forbidden: its key is of a role without the scope, or for other models.
            LimitExceeded: its key, address or session has asked for too many pictures; none were counted.
            KeysUnread: its key cannot be checked, since the store was not read yet.
        """
        headers, host = dict(http.headers), http.client.host if http.client else ""
        key = self._key(headers)
        if not allows(key, model, scope, page):
            raise _refusal(key, model, scope)
        if scope in IMPERSONAL:
            return Visitor(key, "", "", client_key(host), self.sessions.trusts(host))
        named = self._named(key, headers, host, user)
        visitor = self._visitor(key, host, named)
        self.limits.spend_all(_counted(visitor, named), pictures)
        return visitor

    def page_user(self, http: Request) -> str | None:
        """The `auth_dependency` of Gradio's own routes: None, a 401, for a key that is not valid or may not render."""
        try:
            key = self._key(http.headers)
        except (Unauthorized, KeysUnread):
            return None
        if key is None:
            return ""
        return key.name if "render" in scopes_of(key.role) else None

    def _key(self, headers: Mapping[str, str]) -> ApiKey | None:
        """The key of a request; None where it has none. Another scheme than Bearer is for a proxy before this."""
        header = headers.get("authorization", "")
        scheme, text = [*header.split(None, 1), "", ""][:2]
        if scheme.lower() != "bearer":
            if KEY_BEGINS not in header:
                return None
            text = ""  # a key without its scheme
        if text.strip() == NO_KEY:
            return None
        try:
            return self.keys.find(text.strip())
        except KeyRejected as error:
            raise Unauthorized(str(error), wrong=True) from error

    def _named(self, key: ApiKey | None, headers: Mapping[str, str], host: str, user: str) -> str:
        """The session that a request may name; empty where it names none, or may not."""
        if key:
            return f"key {key.id} {user}" if user else ""
        if user and self.sessions.trusts(host):
            return user
        cookie = self.cookies.read(headers)
        return f"cookie {cookie}" if cookie else ""

    def _visitor(self, key: ApiKey | None, host: str, named: str) -> Visitor:
        address, trusted = client_key(host), self.sessions.trusts(host)
        if key and named:
            return Visitor(key, named, named, address, trusted)
        with self.lock:
            session = self.sessions.session_of(host, named)
        if key:
            return Visitor(key, f"key {key.id} {session}", f"key {key.id}", address, trusted)
        return Visitor(None, session, session if trusted else f"address {address}", address, trusted)


def allows(key: ApiKey | None, model: ModelConfig | None, scope: KeyScope, page: bool = False) -> bool:
    """Whether a key, or a request without one, may do this with a model.

    A key decides alone: with one of a lesser role, what is open to all is refused.
    """
    if key:
        return scope in scopes_of(key.role) and (model is None or not key.models or model.name in key.models)
    if model is None:
        return scope in IMPERSONAL
    return model.serving.page if page else model.serving.api == "open"


def _refusal(key: ApiKey | None, model: ModelConfig | None, scope: KeyScope) -> Unauthorized | Forbidden:
    if key is None:
        return Unauthorized(f"model {model.name!r} needs an API key" if model else "this needs an API key")
    if scope in scopes_of(key.role) and model:
        return Forbidden(key.name, f"is not for model {model.name!r}", scope)
    return Forbidden(key.name, f"has the role {key.role}, which lacks the scope {scope!r}", scope)


def _counted(visitor: Visitor, named: str) -> list[tuple[Kind, str]]:
    """What pictures are counted for.

    A backend has one address for all of its users, so that a session is counted there only if it is named.
    """
    alone = visitor.key is None and not visitor.trusted
    session: list[tuple[Kind, str]] = [("session", visitor.session)] if named or alone else []
    if visitor.key:
        return [("key", visitor.key.sha256), *session]
    return [("address", visitor.address), *session] if alone else session


class SessionCookie:
    """ASGI middleware that gives a visitor of the page without a valid session cookie a new one."""

    def __init__(self, app: ASGIApp, cookies: CookieSigner) -> None:
        self.app, self.cookies = app, cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; the cookie goes with the response."""
        if _is_page(scope) and not self.cookies.read(Headers(scope=scope)):
            send = self._with_cookie(scope, send)
        await self.app(scope, receive, send)

    def _with_cookie(self, scope: Scope, send: Send) -> Send:
        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                headers = MutableHeaders(raw=message["headers"])
                headers.append("set-cookie", self._cookie(scope))
                headers.setdefault("cache-control", "private")
            await send(message)

        return with_cookie

    def _cookie(self, scope: Scope) -> str:
        response, path = Response(), scope.get("root_path") or "/"
        secure = scope.get("scheme") == "https"
        response.set_cookie(
            COOKIE, self.cookies.issue(), max_age=YEAR, path=path, secure=secure, httponly=True, samesite="lax"
        )
        return response.headers["set-cookie"]


def _is_page(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).rstrip("/") == PAGE
