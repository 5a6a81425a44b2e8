"""The inventory: every place of a store, with its owner, its life time and who may delete it.

A test that leaves an object which no place names fails, and `tasks.core.lifecycle.sweep` deletes nothing that is not
allowed here.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Life = Literal[
    "permanent",  # of constant size, or one small document for each act: never deleted
    "user's",  # put there by people: never deleted
    "age",  # deleted once it is older than the retention of this name
    "reference",  # deleted once nothing that is kept needs it, and it is older than the retention of this name
    "derived",  # computed again from other places: deleted by its owner, or at any time
]


@dataclass(frozen=True)
class Place:
    """Objects of one kind: their keys have this pattern, in which <name> is one segment and … is the rest."""

    pattern: str
    holds: str
    owner: str  # the module that writes it
    life: Life
    retention: str = ""  # field of `Retention`, of an age or a reference

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        parts = re.split(r"(<[a-z0-9]+>|…)", self.pattern)
        kinds = {"<": "[^/]+", "…": ".+"}
        return re.compile("".join(kinds[part[0]] if part[:1] in kinds else re.escape(part) for part in parts))

    def names(self, key: str) -> bool:
        """Whether the key is of this place."""
        return self._expression.fullmatch(key) is not None


MODEL = "models/<model>/"
PLACES = (
    Place("installation.json", "layout of the store and id of the installation", "registry.store_layout", "permanent"),
    Place("uploads/<dataset>/…", "pictures and captions as they were uploaded", "people", "user's"),
    Place("adopted/…", "LoRAs from elsewhere, to be adopted", "people", "user's"),
    Place("blobs/<sha256>", "pictures of dataset versions, by content", "data.dataset", "reference", "data"),
    Place(
        "datasets/<dataset>/head.json", "the newest version, and remarks on the uploads", "data.dataset", "permanent"
    ),
    Place("datasets/<dataset>/index.json", "what each upload became, so that it is read once", "data.index", "derived"),
    Place("datasets/<dataset>/sides.json", "which pictures are held out", "data.split", "permanent"),
    Place("datasets/<dataset>/<version>/manifest.json", "a dataset version", "data.dataset", "reference", "data"),
    Place("quarantine/<dataset>/<sha256>.json", "why an upload was refused", "data.dataset", "age", "refusals"),
    Place(MODEL + "config/<number>.json", "configurations of a model", "registry.models", "permanent"),
    Place(MODEL + "config/snapshot", "the first of them in one object", "store.journal", "derived"),
    Place(MODEL + "promotions/<generation>.json", "the promotion ledger", "registry.ledger", "permanent"),
    Place(MODEL + "promotions/snapshot", "its first entries in one object", "store.journal", "derived"),
    Place(
        MODEL + "decisions/<number>.json", "the ledger of decisions on retrains", "retraining.decisions", "permanent"
    ),
    Place(MODEL + "decisions/snapshot", "its first decisions in one object", "store.journal", "derived"),
    Place(MODEL + "retrain-lease.json", "the lease of the retrain in flight", "retraining.leases", "permanent"),
    Place(MODEL + "channels/champion.json", "the generation that is served", "registry.channel", "permanent"),
    Place(MODEL + "releases/<release>/manifest.json", "hashes", "registry.releases", "reference", "generations"),
    Place(MODEL + "releases/<release>/withdrawn.json", "why it was withdrawn", "registry.releases", "permanent"),
    Place(
        MODEL + "releases/<release>/<file>",
        "weights, card, samples",
        "registry.releases",
        "reference",
        "generations",
    ),
    Place(MODEL + "withdrawals/<release>.json", "withdrawn releases", "registry.withdrawals", "permanent"),
    Place(MODEL + "deletions/<release>.json", "those whose weights are deleted", "registry.withdrawals", "permanent"),
    Place(MODEL + "results/<stage>/latest", "the newest result of a stage", "registry.results", "permanent"),
    Place(MODEL + "results/evaluations/<training>/<evaluation>", "marks", "registry.results", "reference", "trainings"),
    Place(
        MODEL + "results/<stage>/…", "what a stage found, and its pages", "registry.results", "reference", "trainings"
    ),
    Place(MODEL + "checkpoints/<training>/…", "states, adapter", "training.checkpoints", "reference", "checkpoints"),
    Place(MODEL + "renders/<weights>/…", "pictures of evaluations", "evaluation.renders", "age", "renders"),
    Place(MODEL + "calibrations/…", "calibrations of the gate", "calibrate", "age", "reports"),
    Place(MODEL + "drift/profiles/pin.json", "the pinned reference", "monitoring.reference", "permanent"),
    Place(MODEL + "drift/profiles/…", "references of generations", "monitoring.reference", "reference", "trainings"),
    Place(MODEL + "drift/reports/<time>/…", "drift checks and their pages", "monitoring.drift_check", "age", "reports"),
    Place(MODEL + "drift/recent.json", "the last checks", "monitoring.records", "derived"),
    Place(MODEL + "drift/metrics.prom", "figures for Prometheus", "reporting.metrics", "derived"),
    Place(MODEL + "drift/hours/<hour>", "the log of an hour in one object", "monitoring.log_cache", "derived"),
    Place(MODEL + "drift/states/…", "its state of the detector", "monitoring.log_cache", "derived"),
    Place(MODEL + "drift/embeddings/…", "embeddings of its prompts", "monitoring.embeddings", "derived"),
    Place(MODEL + "drift/captions/…", "embeddings of captions", "monitoring.embeddings", "derived"),
    Place(MODEL + "forgetting/<request>.json", "hours that are being forgotten", "lifecycle.forget_session", "derived"),
    Place("prompts/<model>/<day>/<hour>/<object>", "the prompt log", "traffic.prompt_log", "age", "prompts"),
    Place("feedback/<model>/<day>/<hour>/<object>", "votes", "traffic.feedback", "age", "prompts"),
    Place("access/keys/<sha256>.json", "API keys, by their hash", "access.keys", "permanent"),
    Place("outbox/<event>.json", "events that wait to be sent", "outbox", "permanent"),
    Place("events/<event>.json", "events that were sent", "outbox", "age", "events"),
    Place("refused/<event>.json", "events that the server refused", "outbox", "age", "refusals"),
    Place("pending/<dataset>/<notification>", "notifications that 0.3.0 has not ingested", "gateway", "age", "events"),
    Place("notifications/seen/<notification>", "those that it has ingested", "gateway", "age", "events"),
    Place("notifications/<notification>", "those of 0.2.0", "gateway", "age", "events"),
    Place("probes/<probe>", "what the test of conditional writes writes", "store.conditional_writes", "derived"),
    Place("embeddings/…", "embeddings of before 0.3.0", "monitoring.embeddings", "derived"),
    Place("sweeps/<time>.json", "reports of sweeps", "lifecycle.sweep", "age", "reports"),
)


def place_of(key: str) -> Place | None:
    """The first place that names the key; None where no place does."""
    return next((place for place in PLACES if place.names(key)), None)
