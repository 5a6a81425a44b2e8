"""Events: names, payloads and resources."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from tasks.core.store.documents import Document

Name = Literal[
    "dyeworks.dataset.ready",
    "dyeworks.drift.detected",
    "dyeworks.champion.promoted",
    "dyeworks.champion.published",
    "dyeworks.champion.unhealthy",
    "dyeworks.retrain.declined",
]


class Payload(Document):
    """The fields of all events; those about a model also carry its name."""

    reason: str = Field(description="Why, in words.")


class DatasetReady(Payload):
    """A new dataset version exists."""

    dataset: str = Field(description="Dataset.")
    version: str = Field(description="Dataset version.")
    new_pictures: int = Field(description="Pictures of it that no generation was trained on.")
    decision: str = Field(description="Id of the policy's decision about it.")


class DriftDetected(Payload):
    """The policy has decided to retrain."""

    psi: float = Field(description="PSI of the check.")
    report: str = Field(description="Key of the drift report.")
    decision: str = Field(description="Id of the decision.")


class Champion(Payload):
    """A generation was promoted or published."""

    generation: int = Field(description="Generation, as numbered by the ledger.")
    release: str = Field(description="Release; empty: the bare base.")


class Unhealthy(Champion):
    """The storefront asks for a roll-back of a generation: it fails to render, or visitors dislike it."""

    kind: Literal["health", "feedback"] = Field(description="Failed renders, or votes.")


class Declined(Payload):
    """The policy has decided not to retrain though there was a cause."""

    decision: str = Field(description="Id of the decision.")


PAYLOADS: Mapping[Name, type[Payload]] = MappingProxyType(
    {
        "dyeworks.dataset.ready": DatasetReady,
        "dyeworks.drift.detected": DriftDetected,
        "dyeworks.champion.promoted": Champion,
        "dyeworks.champion.published": Champion,
        "dyeworks.champion.unhealthy": Unhealthy,
        "dyeworks.retrain.declined": Declined,
    }
)


class Event(Document):
    """An event as the Prefect API accepts it."""

    id: str
    event: Name
    occurred: datetime
    resource: dict[str, str]
    payload: dict[str, object]


def make_event(name: Name, model: str, payload: Payload, labels: dict[str, str] | None = None, key: str = "") -> Event:
    """An event about a model; the same `key` gives the same id, so that it is counted once."""
    resource = {"prefect.resource.id": f"dyeworks.model.{model}", "prefect.resource.name": model, **(labels or {})}
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}:{key}") if key else uuid.uuid4()
    # The server records real time, whatever the time of the data is.
    content: dict[str, object] = {"model": model} | payload.model_dump(mode="json")
    return Event(id=str(identity), event=name, occurred=datetime.now().astimezone(), resource=resource, payload=content)
