"""Messages of Amazon SNS: signatures, and confirmation of subscriptions.

What a message names is fetched only from SNS itself, over https, without redirects: neither `SigningCertURL` nor
`SubscribeURL` can make the gateway call another host.
"""

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509 import Certificate, load_pem_x509_certificate

from deployments.problems import ApiError
from tasks.core.http import AnswerTooLong, ask_bounded

HOST = re.compile(r"sns\.[a-z0-9-]{1,40}\.amazonaws\.com(\.cn)?")
FETCH_SECONDS = 10.0
MOST_FETCHED = 65_536  # bytes of an answer
MOST_CERTIFICATES = 16  # that are remembered: SNS has one a region, and changes it about once a year
HASHES: Mapping[str, type[HashAlgorithm]] = {"1": SHA1, "2": SHA256}  # by SignatureVersion
ADDRESSED = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
NOTIFIED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")

log = logging.getLogger("dyeworks.gateway")
logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and that of a subscription holds a token


class MessageType(StrEnum):
    """What SNS sends."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


class TopicNotAllowed(ApiError):
    """A message of SNS comes from a topic that is not one of the installation."""

    status = 403
    code = "topic_not_allowed"

    def __init__(self, topic: str) -> None:
        super().__init__(f"the topic {topic[:200]!r} is not in DYEWORKS_SNS_TOPICS")


class HostNotAllowed(ApiError):
    """A message of SNS names an address that is not one of SNS."""

    status = 403
    code = "host_not_allowed"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not an https address of sns.<region>.amazonaws.com")


class SnsSignatureInvalid(ApiError):
    """A message was not signed by SNS."""

    status = 403
    code = "wrong_signature"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the signature of the message is not valid: {problem}")


class SnsUnavailable(ApiError):
    """SNS does not answer now; it sends the message again."""

    status = 503
    code = "sns_unavailable"

    def __init__(self, problem: str) -> None:
        super().__init__(f"SNS cannot be reached: {problem}; send the message again", retry_after=10)


class SnsMessages:
    """Opens messages of the topics of an installation."""

    def __init__(self, topics: str) -> None:
        """`topics` are ARNs, separated by commas."""
        self.topics = frozenset(filter(None, map(str.strip, topics.split(","))))
        self.certificates = dict[httpx.URL, Certificate]()
        self.fetching = asyncio.Lock()

    def require_topic(self, topic: object) -> None:
        """Raise TopicNotAllowed unless it is one of the installation's."""
        if not (isinstance(topic, str) and topic in self.topics):
            raise TopicNotAllowed(str(topic))

    async def open(self, kind: MessageType, document: Mapping[str, object]) -> str:
        """The text inside a notification; empty for another message. A subscription is confirmed.

        Raises:
            TopicNotAllowed: the topic is not one of the installation; nothing was fetched.
            HostNotAllowed: an address of the message is not one of SNS; it was not fetched.
            SnsSignatureInvalid: SNS has not signed it.
            SnsUnavailable: SNS does not answer.
        """
        self.require_topic(document.get("TopicArn"))
        await self._verify(document, NOTIFIED if kind is MessageType.NOTIFICATION else ADDRESSED)
        if kind is MessageType.NOTIFICATION:
            return str(document["Message"])
        if kind is MessageType.SUBSCRIPTION:
            await _fetch(_address(document, "SubscribeURL"))
        log.warning("%s of the topic %s", kind, document["TopicArn"])
        return ""

    async def _verify(self, document: Mapping[str, object], fields: tuple[str, ...]) -> None:
        text = _signed_text(document, fields)
        algorithm = HASHES.get(str(document.get("SignatureVersion")))
        if algorithm is None:
            raise SnsSignatureInvalid("its SignatureVersion is neither 1 nor 2")
        key = await self._public_key(_address(document, "SigningCertURL"))
        try:
            signature = base64.b64decode(str(document.get("Signature")), validate=True)
            key.verify(signature, text, PKCS1v15(), algorithm())
        except (binascii.Error, ValueError) as error:
            raise SnsSignatureInvalid("it is not Base64") from error
        except InvalidSignature as error:
            raise SnsSignatureInvalid("it is of another message, or another sender") from error

    async def _public_key(self, url: httpx.URL) -> RSAPublicKey:
        """The key of a certificate; concurrent messages fetch it once."""
        async with self.fetching:
            if url not in self.certificates:
                found = _certificate(await _fetch(url))
                if len(self.certificates) >= MOST_CERTIFICATES:
                    self.certificates.pop(next(iter(self.certificates)))
                self.certificates[url] = found
        certificate = self.certificates[url]
        if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
            raise SnsSignatureInvalid("the certificate is expired")
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            raise SnsSignatureInvalid("the certificate has no RSA key")
        return key


def _certificate(data: bytes) -> Certificate:
    try:
        return load_pem_x509_certificate(data)
    except ValueError as error:
        raise SnsSignatureInvalid("the certificate cannot be read") from error


def _signed_text(document: Mapping[str, object], fields: tuple[str, ...]) -> bytes:
    """What SNS signs: each field's name and value in a line of its own; a subject only if there is one."""
    text = ""
    for name in fields:
        value = document.get(name)
        if isinstance(value, str):
            text += f"{name}\n{value}\n"
        elif name != "Subject" or value is not None:
            raise SnsSignatureInvalid(f"the message has no {name}")
    return text.encode()


def _address(document: Mapping[str, object], name: str) -> httpx.URL:
    """An address of SNS itself; raises HostNotAllowed for any other. The same parser reads it for the request."""
    try:
        url = httpx.URL(str(document.get(name)))
        host = url.host
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: a malformed name of IDNA
        raise HostNotAllowed(name) from error
    if url.scheme != "https" or url.port is not None or url.userinfo or not HOST.fullmatch(host):
        raise HostNotAllowed(name)
    return url


async def _fetch(url: httpx.URL) -> bytes:
    """The answer of SNS; one that is no success, too long or too slow raises SnsUnavailable."""
    try:
        async with httpx.AsyncClient(follow_redirects=False) as client:
            answer = await ask_bounded(client, "GET", url, MOST_FETCHED, FETCH_SECONDS)
    except (httpx.HTTPError, AnswerTooLong) as error:
        raise SnsUnavailable(f"{url.host}: {type(error).__name__}") from error
    if answer.status_code != httpx.codes.OK:
        raise SnsUnavailable(f"{url.host} answers {answer.status_code}")
    return answer.content
