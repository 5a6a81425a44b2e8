"""`POST /hooks/s3` and `POST /hooks/standard`: notifications of uploads, in the outbox before they are answered."""

import logging
from collections.abc import Mapping, Sequence

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.requests import Request

from deployments.gateway.access import GatewayAccess
from deployments.gateway.metrics import GatewayMetrics
from deployments.gateway.notifications import (
    NotificationUnusable,
    Reading,
    StoreLocation,
    parse,
    read_message,
    read_notification,
)
from deployments.gateway.outbox import UploadOutbox
from deployments.gateway.places import Places
from deployments.gateway.schemas import NOTIFICATION, UPLOADED, body, refusals
from deployments.gateway.sns import MessageType, SnsMessages
from deployments.gateway.standard import ID, SIGNATURE, TIMESTAMP, MessageSignatureInvalid, StandardSignatures
from deployments.gateway.subscriptions import Subscriptions
from deployments.request_body import read_body
from tasks.core.config.installation import Settings

MOST_BYTES = 1_000_000  # of a body; SNS and EventBridge send at most 256 KiB
MOST_READ = 64  # bodies of /hooks/standard at once: their senders are only known once they are read
BODY_SECONDS = 30  # for a body to arrive
RAW_TOPIC = "x-amz-sns-topic-arn"  # also of raw delivery, which has no signature
MOST_LISTED = 20  # entries in a list of the answer

log = logging.getLogger("dyeworks.gateway")


class NotificationAnswer(BaseModel):
    """What became of the records of a notification."""

    new: int
    records: int
    ignored: list[str] = []
    bad: list[str] = []


class Hooks:
    """The routes.

    Raises:
        SettingError: a secret is malformed.
    """

    def __init__(
        self,
        settings: Settings,
        access: GatewayAccess,
        subscriptions: Subscriptions,
        outbox: UploadOutbox,
        metrics: GatewayMetrics,
    ) -> None:
        self.place = StoreLocation.of(settings.store)
        self.access, self.subscriptions, self.outbox, self.metrics = access, subscriptions, outbox, metrics
        self.sns = SnsMessages(settings.sns_topics)
        self.signatures = StandardSignatures(settings.valid_webhook_secrets)
        self.places = Places(MOST_READ, MOST_READ)

    def router(self) -> APIRouter:
        """The routes, to be included in an application."""
        router = APIRouter(prefix="/hooks", tags=["hooks"])
        answers = refusals(401, 403, 408, 413, 422, 503)
        answers |= {status: {"model": NotificationAnswer} for status in (200, 202)}
        shape = body(NOTIFICATION, "token", "password")
        signed = body(UPLOADED, "signature", parameters=(ID, TIMESTAMP, SIGNATURE))
        router.post("/s3", response_model=None, responses=answers, openapi_extra=shape)(self.take_s3)
        router.post("/standard", response_model=None, responses=answers, openapi_extra=signed)(self.take_standard)
        return router

    async def take_s3(self, request: Request) -> JSONResponse:
        """Take a notification of an object store: uploads to this store are ingested, all else is ignored."""
        self.access.notifier(request)
        if topic := request.headers.get(RAW_TOPIC):
            self.sns.require_topic(topic)
        document = parse(await read_body(request, MOST_BYTES, BODY_SECONDS))
        kind = document.get("Type")
        if isinstance(kind, str) and kind in set(MessageType):
            return await self._keep(await self._opened(MessageType(kind), document))
        return await self._keep(read_notification(document, self.place))

    async def take_standard(self, request: Request) -> JSONResponse:
        """Take a message of Standard Webhooks: `upload.created` says which keys of a dataset were written."""
        if not self.signatures.webhooks:
            raise MessageSignatureInvalid("no secret is configured")
        message = self.signatures.check_headers(request.headers)
        with self.places.taken():
            data = await read_body(request, MOST_BYTES, BODY_SECONDS)
        self.signatures.check(data, request.headers)
        return await self._keep(read_message(message, parse(data), self.place))

    async def _opened(self, kind: MessageType, document: Mapping[str, object]) -> Reading:
        """What is inside a message of SNS."""
        text = await self.sns.open(kind, document)
        reading = read_notification(parse(text), self.place) if text else Reading(self.place, ignored=[kind])
        reading.sender = "sns"
        return reading

    async def _keep(self, reading: Reading) -> JSONResponse:
        """Store what has arrived; returns the answer, or raises NotificationUnusable if nothing could be read."""
        reading.keep_only(self.subscriptions.all())
        new = sum(await self.outbox.add(reading.arrivals))
        known = len(reading.arrivals) - new
        outcomes = {"new": new, "repeated": known, "ignored": len(reading.ignored), "bad": len(reading.bad)}
        for outcome, number in outcomes.items():
            self.metrics.count(reading.sender, outcome, number)
        lists = {name: words for name, words in (("ignored", reading.ignored), ("bad", reading.bad)) if words}
        if lists:
            log.info("notification: %r", {name: words[:MOST_LISTED] for name, words in lists.items()})
        if reading.bad and not reading.arrivals:
            raise NotificationUnusable("; ".join(_shown(reading.bad)))
        answer = NotificationAnswer(
            new=new, records=sum(outcomes.values()), ignored=_shown(reading.ignored), bad=_shown(reading.bad)
        )
        return JSONResponse(answer.model_dump(), 202 if reading.arrivals else 200)


def _shown(words: Sequence[str]) -> list[str]:
    more = [f"and {len(words) - MOST_LISTED} more"] if len(words) > MOST_LISTED else []
    return [*words[:MOST_LISTED], *more]
