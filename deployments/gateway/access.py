"""Who may notify the gateway, upload to it, and read its metrics; decided by the headers alone, in constant time."""

import base64
import binascii
import secrets
from hashlib import sha256

from starlette.requests import Request

from deployments.problems import Forbidden, Unauthorized
from tasks.core.access.errors import KeyRejected
from tasks.core.access.keys import ApiKey, KeyRing
from tasks.core.access.roles import Scope, scopes_of
from tasks.core.config.installation import Settings

TOKEN = "token"  # the name of a sender that has one of DYEWORKS_WEBHOOK_TOKEN


class GatewayAccess:
    """Admits requests; never waits for the store: a thread of the owner refreshes the keys.

    Each method raises Unauthorized, Forbidden or, until the keys were read, KeysUnread.
    """

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self.tokens = [_hash(token.get_secret_value()) for token in settings.webhook_tokens]
        self.keys = keys

    def notifier(self, request: Request) -> str:
        """The name, for logs, of a sender with a token of the installation, or an API key that may upload anything."""
        shown = credentials(request)
        matches = [secrets.compare_digest(_hash(shown), token) for token in self.tokens]  # all, for a constant time
        if any(matches):
            return TOKEN
        key = self._key(shown, "upload", "a token of DYEWORKS_WEBHOOK_TOKEN or an API key, as Bearer or by Basic")
        if key.models:
            raise Forbidden(key.name, "is for certain models, and a store notifies about all", "upload")
        return f"key {key.name}"

    def uploader(self, request: Request) -> ApiKey:
        """The key of a request that may upload, to the datasets of the key's models."""
        return self._key(credentials(request), "upload", "an API key")

    def reader(self, request: Request) -> None:
        """Admit a request for metrics: one without a key, or with one that may read them."""
        if shown := credentials(request):
            self._key(shown, "metrics", "an API key")

    def _key(self, shown: str, scope: Scope, needed: str) -> ApiKey:
        try:
            key = self.keys.find(shown)
        except KeyRejected as error:
            raise _Challenged(f"this needs {needed}", wrong=bool(shown)) from error
        if scope not in scopes_of(key.role):
            raise Forbidden(key.name, f"has the role {key.role}, which lacks the scope {scope!r}", scope)
        return key


class _Challenged(Unauthorized):
    """Basic comes first: SNS sends its password only where it is asked for with a realm."""

    def __init__(self, problem: str, wrong: bool) -> None:
        super().__init__(problem, wrong)
        self.challenge = f'Basic realm="dyeworks", {self.challenge}'


def credentials(request: Request) -> str:
    """The token of Bearer, or the password of Basic: SNS can send only that, as given in its URL; else empty."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            return _password(value)
        case _:
            return ""


def _password(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):  # ValueError: not ASCII, or not UTF-8
        return ""


def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
