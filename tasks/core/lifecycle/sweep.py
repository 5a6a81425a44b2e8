"""The sweep: deletes by age and reference what the inventory allows, and nothing that a model needs.

It may be killed at any moment and run again: what refers to something goes first, then what it referred to. While a
retrain of a model is in flight, that model's results, checkpoints and renders stay as they are. A picture that nothing
has referred to for long, and that is uploaded again while a sweep is deleting it, has to be uploaded once more.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from tasks.core import clock
from tasks.core.config.requests import Retention
from tasks.core.data.dataset import Manifest, manifest_key, newest_version
from tasks.core.errors import DyeworksError
from tasks.core.lifecycle.needs import Needs, needs_of
from tasks.core.registry.models import model_names
from tasks.core.registry.releases import MANIFEST, TOMBSTONE, prefix
from tasks.core.registry.results import (
    EvaluationResult,
    PromotionResult,
    PublishResult,
    Result,
    TrainResult,
    checkpoint_folder,
    get_result,
    result_folder,
)
from tasks.core.store import Listed, Store
from tasks.core.store.documents import Document, read_document, render
from tasks.core.store.inventory import place_of

UNFINISHED = timedelta(days=1)  # age from which what interrupted writers have left is removed
DELETABLE = {"age", "reference", "derived"}


class SweepRefused(DyeworksError):
    """A rule of the sweep would delete what the inventory does not allow."""

    def __init__(self, key: str) -> None:
        super().__init__(f"object {key} must not be deleted by a sweep: see tasks.core.store.inventory; report this")
        self.key = key


class Swept(Document):
    """What was deleted of one place."""

    place: str  # its pattern in the inventory
    objects: int
    size: int  # bytes


class SweepReport(Document):
    """What a sweep has deleted, or would delete."""

    time: datetime
    dry_run: bool
    retention: Retention
    swept: tuple[Swept, ...]
    unfinished: int = 0  # temporary files and parts of uploads

    @property
    def objects(self) -> int:
        """Number of objects of all places."""
        return sum(each.objects for each in self.swept)

    @property
    def size(self) -> int:
        """Bytes of all places."""
        return sum(each.size for each in self.swept)


@dataclass(frozen=True)
class Sweep:
    """The rules over a store at one time; each yields what is to be deleted, in that order."""

    store: Store
    retention: Retention
    now: datetime

    def all(self) -> list[Listed]:
        """Everything that is to be deleted."""
        names = model_names(self.store)
        needs = {name: needs_of(self.store, name, self.retention.generations) for name in names}
        found = [each for name in names for each in self._of_model(name, needs[name])]
        versions = {version for each in needs.values() for version in each.versions}
        return [*found, *self._logs(), *self._messages(), *self._data(versions)]

    def _of_model(self, model: str, needs: Needs) -> Iterator[Listed]:
        drift = f"models/{model}/drift/"
        first = f"{drift}reports/{self.now - timedelta(days=self.retention.reports):%Y%m%dT%H%M%S}"
        yield from (found for found in self.store.scan(f"{drift}reports/") if found.key < first)
        yield from self._old(f"models/{model}/calibrations/", self.retention.reports)
        yield from self._profiles(f"{drift}profiles/", needs)
        if not needs.busy:
            results = [*self._results(model, needs)]
            yield from results
            yield from self._checkpoints(model, needs, {each.key for each in results})
            yield from self._old(f"models/{model}/renders/", self.retention.renders)
            yield from self._releases(model, needs)

    def _profiles(self, folder: str, needs: Needs) -> Iterator[Listed]:
        """References of generations that are not needed, their records first."""
        for kind in ("frozen/", "arrays/"):
            for found in self._old(folder + kind, self.retention.trainings):
                number = found.key.removeprefix(folder + kind).partition("-")[0]
                if number.isdigit() and int(number) not in needs.generations:
                    yield found

    def _results(self, model: str, needs: Needs) -> Iterator[Listed]:
        """Results that are not needed, then what lies beside them; marks of evaluations."""
        for kind in (PublishResult, PromotionResult, EvaluationResult, TrainResult):
            folder = result_folder(model, kind)
            found = [each for each in self.store.scan(folder) if not each.key.endswith("/latest")]
            names = {each.key.removeprefix(folder).removesuffix(".json"): each for each in found}
            results = {name: each for name, each in names.items() if each.key.endswith(".json")}
            old = {n: e for n, e in results.items() if self._is_old(e, self.retention.trainings)}
            gone = {name for name in old if not self._needs_result(model, kind, name, needs)}
            beside = tuple(f"{name}{mark}" for name in results.keys() - gone for mark in "-.")
            yield from (old[name] for name in gone)
            rest = (each for name, each in names.items() if name not in results and not name.startswith(beside))
            yield from (each for each in rest if self._is_old(each, self.retention.trainings))
        marks = self._old(f"models/{model}/results/evaluations/", self.retention.trainings)
        yield from (each for each in marks if each.key.split("/")[4] not in needs.trainings)

    def _needs_result(self, model: str, kind: type[Result], name: str, needs: Needs) -> bool:
        if kind is TrainResult:
            return name in needs.trainings
        if kind is EvaluationResult:
            return name in needs.evaluations
        if kind is PromotionResult:
            return get_result(self.store, model, PromotionResult, name).evaluation in needs.evaluations
        return get_result(self.store, model, PublishResult, name).generation in needs.generations

    def _checkpoints(self, model: str, needs: Needs, gone: set[str]) -> Iterator[Listed]:
        """All of trainings without a result; of trainings with one only the states."""
        for training in self.store.folders(f"models/{model}/checkpoints/"):
            found = [*self.store.scan(f"{checkpoint_folder(model, training)}/")]
            result = f"{result_folder(model, TrainResult)}{training}.json"
            if result not in gone and self.store.exists(result):
                states = (each for each in found if each.key.split("/")[4].startswith("step-"))
                yield from (each for each in states if self.now - each.time > UNFINISHED)
            elif training not in needs.trainings and self._all_old(found, self.retention.checkpoints):
                yield from found

    def _releases(self, model: str, needs: Needs) -> Iterator[Listed]:
        """The files of releases that are not needed; also the manifest of one that never came into the ledger."""
        for release in self.store.folders(f"models/{model}/releases/"):
            found = [*self.store.scan(prefix(model, release))]
            if release not in needs.releases and self._all_old(found, self.retention.trainings):
                left = {MANIFEST, TOMBSTONE} if release in needs.known else set[str]()
                files = (each for each in found if each.key.removeprefix(prefix(model, release)) not in left)
                yield from sorted(files, key=lambda each: not each.key.endswith(MANIFEST))

    def _logs(self) -> Iterator[Listed]:
        """Days of the prompt log and of the votes."""
        first = f"dt={self.now - timedelta(days=self.retention.prompts):%Y-%m-%d}"
        for log in ("prompts/", "feedback/"):
            for model in self.store.folders(log):
                for day in self.store.folders(f"{log}{model}/"):
                    if day < first:
                        yield from self.store.scan(f"{log}{model}/{day}/")

    def _messages(self) -> Iterator[Listed]:
        """Events and notifications, refusals, reports of sweeps, what earlier versions have left."""
        keep = self.retention
        yield from self._old("events/", keep.events)
        yield from self._old("notifications/", keep.events)
        yield from self._old("pending/", keep.events)
        yield from self._old("refused/", keep.refusals)
        yield from self._old("quarantine/", keep.refusals)
        yield from self._old("sweeps/", keep.reports)
        yield from self._old("probes/", 1)
        yield from self._old("embeddings/", 1)

    def _data(self, needed: set[tuple[str, str]]) -> Iterator[Listed]:
        """Dataset versions that are not needed, then pictures that are in none of the others."""
        pictures = set[str]()
        for dataset in self.store.folders("datasets/"):
            newest = newest_version(self.store, dataset)
            for version in self.store.folders(f"datasets/{dataset}/"):
                found = [*self.store.scan(f"datasets/{dataset}/{version}/")]
                if (dataset, version) in needed or version == newest or not self._all_old(found, self.retention.data):
                    manifest = read_document(self.store, Manifest, manifest_key(dataset, version))
                    pictures |= {item.sha256 for item in manifest.items}
                else:
                    yield from found
        yield from (e for e in self._old("blobs/", self.retention.data) if e.key.rpartition("/")[2] not in pictures)

    def _is_old(self, found: Listed, days: float) -> bool:
        return self.now - found.time > timedelta(days=days)

    def _all_old(self, found: Iterable[Listed], days: float) -> bool:
        return all(self._is_old(each, days) for each in found)

    def _old(self, prefix: str, days: float) -> Iterator[Listed]:
        """What was written before."""
        return (found for found in self.store.scan(prefix) if self._is_old(found, days))


def sweep(store: Store, retention: Retention, dry_run: bool = False) -> SweepReport:
    """Delete what nothing needs, and store a report; a dry run changes nothing.

    Raises:
        DocumentInvalid: a document that may refer to something cannot be read, so nothing was deleted.
        SweepRefused: a rule is wrong, so nothing was deleted.
    """
    now = clock.now()
    gone = Sweep(store, retention, now).all()
    report = SweepReport(time=now, dry_run=dry_run, retention=retention, swept=_counted(gone))
    if dry_run:
        return report
    for _, some in groupby(gone, key=lambda each: each.key.split("/")[:3]):
        store.delete_many(each.key for each in some)
    report = report.model_copy(update={"unfinished": store.tidy(datetime.now(UTC) - UNFINISHED)})
    store.write(f"sweeps/{now:%Y%m%dT%H%M%S%f}.json", render(report))
    return report


def _counted(gone: Sequence[Listed]) -> tuple[Swept, ...]:
    """By place; raises SweepRefused."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for each in gone:
        place = place_of(each.key)
        if place is None or place.life not in DELETABLE:
            raise SweepRefused(each.key)
        sizes[place.pattern].append(each.size)
    return tuple(Swept(place=pattern, objects=len(found), size=sum(found)) for pattern, found in sizes.items())
