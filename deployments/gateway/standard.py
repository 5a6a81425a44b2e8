"""Signatures of Standard Webhooks (https://www.standardwebhooks.com)."""

import base64
import binascii
import time
from collections.abc import Mapping, Sequence

from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from deployments.problems import ApiError
from tasks.core.errors import SettingError

WINDOW_SECONDS = 300  # that the clocks of both sides may differ, and a message be under way
SHORTEST, LONGEST = 24, 64  # bytes of a secret
PREFIX = "whsec_"
LONGEST_ID = 256  # characters
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class MessageSignatureInvalid(ApiError):
    """A message was not signed with a secret of the installation."""

    status = 401
    code = "wrong_signature"

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; sign it by a secret of DYEWORKS_WEBHOOK_SECRETS")


class MessageOutdated(ApiError):
    """A message was signed too long ago: it may be one that a stranger has recorded."""

    status = 401
    code = "old_timestamp"

    def __init__(self) -> None:
        super().__init__(f"{TIMESTAMP} is not within {WINDOW_SECONDS} seconds of now; sign the message again")


class StandardSignatures:
    """Checks messages by several live secrets."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        """Raises SettingError for a secret that is malformed."""
        self.webhooks = [Webhook(_key(secret.get_secret_value())) for secret in secrets]

    def check_headers(self, headers: Mapping[str, str]) -> str:
        """The id of a message whose headers are complete and recent; to be called before its body is read.

        Raises:
            MessageSignatureInvalid: a header is missing.
            MessageOutdated: it was signed too long ago, or in the future.
        """
        if missing := [name for name in (ID, TIMESTAMP, SIGNATURE) if not headers.get(name)]:
            raise MessageSignatureInvalid(f"the message has no {missing[0]}")
        if len(headers[ID]) > LONGEST_ID:
            raise MessageSignatureInvalid(f"{ID} has more than {LONGEST_ID} characters")
        if not abs(time.time() - _number(headers[TIMESTAMP])) <= WINDOW_SECONDS:  # also of NaN
            raise MessageOutdated
        return headers[ID]

    def check(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise MessageSignatureInvalid unless one of the secrets has signed it."""
        if not any(_is_signed(webhook, body, headers) for webhook in self.webhooks):
            raise MessageSignatureInvalid("no signature of the message is valid")


def _is_signed(webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> bool:
    try:
        webhook.verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # ValueError: a malformed header, or a body that is not UTF-8
        return False
    return True


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if secret.startswith(PREFIX) and SHORTEST <= len(key) <= LONGEST:
        return key
    advice = f"write each as {PREFIX} and Base64 of {SHORTEST} to {LONGEST} bytes (openssl rand -base64 32)"
    raise SettingError("DYEWORKS_WEBHOOK_SECRETS", f"a secret is malformed: {advice}")
