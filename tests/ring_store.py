"""A store with everything in it that the ring leaves, and all that the readers find in it."""

import sys
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import torch

from tasks.core.access.keys import create_key, read_keys
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import GateSpec, IngestSpec
from tasks.core.config.requests import PromoteRequest, PublishRequest, WithdrawRequest
from tasks.core.config.training import TrainSpec
from tasks.core.data.dataset import Manifest, Refusal, load_manifest
from tasks.core.data.index import (
    DatasetIndex,
    PictureEntry,
    TableEntry,
    TableLine,
    TextEntry,
    read_index,
    reading_digest,
    write_index,
)
from tasks.core.data.ingest import ingest
from tasks.core.data.split import split
from tasks.core.drift.detector import DriftReport
from tasks.core.drift.explain import Topic
from tasks.core.events import Declined, Event, make_event
from tasks.core.gate.calibration import Calibration, propose
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.monitoring.log_cache import read_hours
from tasks.core.monitoring.records import DriftRecord, Recent, read_records, recent_key, recent_records, write_record
from tasks.core.monitoring.reference import ReferenceRecord, pin_profile, read_pin, reference_records
from tasks.core.outbox import Outbox, queue
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.registry.models import apply_config, configurations
from tasks.core.registry.releases import verify_release
from tasks.core.registry.results import STAGES, checkpoint_folder, get_result, result_folder
from tasks.core.registry.store_layout import store_identity
from tasks.core.registry.withdrawals import deletions, withdrawals
from tasks.core.retraining.decisions import make_decision, read_decisions, record_decision
from tasks.core.retraining.leases import read_lease, renew
from tasks.core.store import FolderStore, Store
from tasks.core.store.documents import Document, read_document, read_documents, render
from tasks.core.traffic.feedback import Vote, read_votes, write_votes
from tasks.core.traffic.prompt_log import read_lines, write_lines
from tasks.core.training.checkpoints import Checkpoint, Validated, newest_checkpoint, save_checkpoint
from tests.adire import adire, installed
from tests.candidates import evaluated, scores
from tests.odd_pictures import encoded, noise
from tests.shop import line_at

NOW = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)
START, END = NOW - timedelta(days=1), NOW + timedelta(days=1)


def record() -> DriftRecord:
    report = DriftReport(
        verdict="retrain",
        psi=0.3,
        psi_raw=0.4,
        p_value=1e-5,
        threshold=0.2,
        n=300,
        n_effective=200.0,
        new_traffic_share=0.3,
        histogram=[0.1] * 10,
    )
    return DriftRecord(
        key="models/adire/drift/reports/20260320T123000/report.json",
        model="adire",
        time=NOW,
        start=START,
        end=NOW,
        generation=1,
        verdict="retrain",
        says="drift",
        requests=300,
        reference_requests=4000,
        drift=report,
        topics=(Topic(share_reference=0.0, share_current=0.2, rows=60, medoids=("moons",), terms=("moon",)),),
    )


def fill(store: Store, shop: ModelConfig) -> None:
    """A store with everything in it that the ring leaves."""
    store_identity(store)
    installation = installed(store)
    apply_config(store, shop)
    for number in range(3):
        store.write(f"uploads/adire/{number}.png", encoded(noise(number)))
    store.write("uploads/adire/broken.png", b"no picture")
    manifest, _ = ingest(store, "adire", IngestSpec(), "adire_style")
    split(store, manifest)
    _write_index(store, manifest)
    for number, training in enumerate("abc"):
        promote(installation, shop, PromoteRequest(evaluation=evaluated(store, training, number)))
        publish(installation, shop, PublishRequest())
    withdraw(installation, shop, WithdrawRequest(generation=3, reason="a picture had to go", delete_weights=True))
    report = record()
    write_record(store, report)
    decision = make_decision("drift", NOW, ("retrain", "drift"), report.key, report=report.key, verdict="retrain")
    record_decision(store, shop.name, decision)
    renew(store, shop.name, decision.id)
    ended = make_decision("outcome", NOW, ("none", "better"), "o", outcome_of=decision.id, outcome="promote")
    record_decision(store, shop.name, ended)
    write_lines(store, shop.name, [line_at(NOW, name, "rings in adire_style") for name in "ab"])
    read_hours(store, shop.name, START, END)
    _documents_of_services(store, shop.name)
    votes = [Vote(request_id=n, time=NOW, liked=n == "a", release="r", generation=1, session=n) for n in "ab"]
    write_votes(store, shop.name, votes)


def _write_index(store: Store, manifest: Manifest) -> None:
    """An index with entries, of which an ingest leaves none for uploads that were just written."""
    read = {"size": 7, "time": NOW, "tag": "abc"}
    (first, *_), lines = manifest.items, (TableLine(place="line 1", file_name="0.png", text="rings"),)
    index = DatasetIndex(
        reading=reading_digest(IngestSpec()),
        pictures={first.name: PictureEntry(**read, sha256=first.sha256)},
        texts={"0.txt": TextEntry(**read, text="rings")},
        tables={"metadata.jsonl": TableEntry(**read, lines=lines)},
        quarantine={r.sha256: r for r in read_documents(store, Refusal, "quarantine/adire/")},
        versions=(manifest.version,),
        known=tuple(item.sha256 for item in manifest.items),
    )
    write_index(store, "adire", index)


def _documents_of_services(store: Store, model: str) -> None:
    """What monitor, trainer, calibration and outbox leave, without their arrays."""
    event = make_event("dyeworks.retrain.declined", model, Declined(reason="too soon", decision="d1"), key="fixture")
    queue(store, event)
    store.write(f"events/{NOW:%Y%m%dT%H%M%S%f}-{event.id}.json", render(event))
    store.write(f"refused/{event.id}.json", render(Outbox(event=event, queued=NOW, attempts=10, reason="422")))
    place = f"models/{model}/drift/profiles/"
    span = {"begin": START, "end": NOW, "rows": 4000, "phi": 1.5, "fitted": NOW, "arrays": f"{place}arrays/none"}
    frozen = ReferenceRecord.model_validate({"generation": 1, "encoder": "embedded"} | span)
    store.write(f"{place}frozen/000001-embedded.json", render(frozen))
    pin_profile(store, model, 1, "ada", "the autumn show")
    mark = Checkpoint(step=50, seconds=12.5, spec=TrainSpec(), validations=(Validated(step=50, loss=0.1),))
    save_checkpoint(store, checkpoint_folder(model, "a"), mark, {"weight": torch.zeros(2)})
    create_key(store, "visitor", "shop", [model])
    noise_found = propose(scores(0.8), scores(0.7), GateSpec())
    store.write(f"models/{model}/calibrations/20260320T123000.json", render(noise_found))


def look(store: Store, model: str) -> list[Document]:
    """All that the readers of today's software find."""
    entries, manifest = history(store, model), load_manifest(store, "adire")
    channel, _ = read_channel(store, model)
    served = [entry.release for entry in entries if entry.release not in {w.release for w in withdrawals(store, model)}]
    stored = (
        (*read_documents(store, kind, result_folder(model, kind)), get_result(store, model, kind)) for kind in STAGES
    )
    lines = chain(read_lines(store, model, START, END), read_votes(store, model, START, END))
    hours = (line for hour in read_hours(store, model, START, END) for line in hour.lines)
    split(store, manifest)
    return [
        *entries,
        *filter(None, [channel]),
        manifest,
        read_index(store, "adire", IngestSpec()),
        *chain.from_iterable(stored),
        *configurations(store, model),
        *(verify_release(store, model, release) for release in served),
        *chain(withdrawals(store, model), deletions(store, model)),
        *read_decisions(store, model),
        *filter(None, [read_lease(store, model)[0], read_pin(store, model)]),
        *reference_records(store, model),
        *(mark for mark, _ in filter(None, [newest_checkpoint(store, checkpoint_folder(model, "a"))])),
        *read_documents(store, Calibration, f"models/{model}/calibrations/"),
        *chain(read_documents(store, Event, "events/"), read_documents(store, Outbox, "outbox/")),
        *read_documents(store, Outbox, "refused/"),
        read_document(store, Recent, recent_key(model)),
        store_identity(store),
        *read_keys(store),
        *chain(read_records(store, model), read_records(store, model, 1), recent_records(store, model)),
        *chain(lines, hours),
    ]


def main(folder: str) -> None:
    """Write such a store, as it is kept in `tests/stores` for each version that wrote one."""
    fill(FolderStore(Path(folder)), adire())


if __name__ == "__main__":
    main(*sys.argv[1:])
