"""The sweep: a store of many retrains stays flat, what is needed stays, and a kill at any moment does no harm."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tasks.core import clock
from tasks.core.config.requests import Retention, RollBackRequest
from tasks.core.data.dataset import blobs, load_manifest
from tasks.core.errors import DocumentNewer, ReleaseIncomplete
from tasks.core.installation import Installation
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.lifecycle.sweep import Sweep, SweepRefused, sweep
from tasks.core.monitoring.reference import pin_profile, reference_records
from tasks.core.registry.ledger import champion, history
from tasks.core.registry.models import apply_config
from tasks.core.registry.releases import verify_release
from tasks.core.registry.results import EvaluationResult, TrainResult, find_result, get_result
from tasks.core.retraining.decisions import make_decision, record_decision
from tasks.core.store import FolderStore, inventory
from tasks.core.store.inventory import Place, place_of
from tests.adire import adire, installed
from tests.crashes import forked, traced
from tests.events_server import EventsServer
from tests.weeks import Weeks

pytestmark = pytest.mark.usefixtures("mlflow_home")  # else MLflow writes into the working folder

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
KEEP = Retention(generations=3, reports=30, prompts=30, data=30, refusals=30)
DAY = timedelta(days=1)


@pytest.fixture
def weeks(
    installation: Installation,
    folder: FolderStore,
    events: EventsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Weeks:
    """A model whose weeks can pass."""
    monkeypatch.chdir(tmp_path)
    model = apply_config(folder, adire(publishing={"store": str(tmp_path / "public")})).config
    passing = Weeks(installed(folder), model, tmp_path / "store", START)
    monkeypatch.setattr(clock, "now", lambda: passing.now)
    return passing


def sizes(store: FolderStore) -> dict[str, tuple[int, int]]:
    """Objects and bytes by life; the manifest of a release in the ledger stays."""
    found: dict[str, tuple[int, int]] = {}
    for each in store.scan(""):
        place = place_of(each.key)
        assert place, each.key
        life = "permanent" if place.pattern.endswith("<release>/manifest.json") else place.life
        objects, size = found.get(life, (0, 0))
        found[life] = objects + 1, size + each.size
    return found


def require_whole(weeks: Weeks) -> None:
    """Whatever a model needs is there: its champion, two to go back to, their trainings, data and references."""
    store, name = weeks.store, weeks.model.name
    entries = history(store, name)
    for entry in entries[-3:]:
        assert verify_release(store, name, entry.release).training == entry.training
        assert get_result(store, name, EvaluationResult, entry.evaluation).training == entry.training
        assert store.exists(
            get_result(store, name, TrainResult, entry.training).adapter + "pytorch_lora_weights.safetensors"
        )
        manifest = load_manifest(store, entry.dataset, entry.dataset_version)
        assert len([*blobs(store, entry.dataset, manifest.items)]) == len(manifest.items)
        assert store.exists(next(r.arrays for r in reference_records(store, name) if r.generation == entry.generation))
    assert len(entries) == weeks.number


def test_a_store_stays_flat_over_fifty_retrains(weeks: Weeks, folder: FolderStore) -> None:
    seen: list[dict[str, tuple[int, int]]] = []
    for number in range(50):
        weeks.pass_week()
        sweep(folder, KEEP)
        weeks.date()
        if number in (14, 49):
            require_whole(weeks)
            seen.append(sizes(folder))
    early, late = seen
    for life in ("age", "reference", "user's"):
        assert late[life][0] == early[life][0], life
        assert late[life][1] < 1.02 * early[life][1], life
    grown = late["permanent"][1] - early["permanent"][1]
    assert grown < 35 * 6_000, "a promotion, two decisions, a manifest, some lines of the split"
    changes = reconcile(weeks.installation, weeks.model)
    assert not [change for change in changes if "MLflow" not in change]
    rolled_back = roll_back(weeks.installation, weeks.model, RollBackRequest(generation=48))
    assert verify_release(folder, weeks.model.name, rolled_back.release)
    with pytest.raises(ReleaseIncomplete, match="choose a newer generation"):
        roll_back(weeks.installation, weeks.model, RollBackRequest(generation=20))


def test_a_dry_run_changes_nothing_and_tells_the_same(weeks: Weeks, folder: FolderStore) -> None:
    for _ in range(12):
        weeks.pass_week()
    before = [*folder.scan("")]
    planned = sweep(folder, KEEP, dry_run=True)
    assert [*folder.scan("")] == before
    done = sweep(folder, KEEP)
    assert planned.swept == done.swept
    assert done.objects == len(before) + 1 - len([*folder.scan("")])
    assert {"renders", "reports", "prompts", "blobs", "results", "checkpoints"} <= {
        word for each in done.swept for word in each.place.split("/")
    }
    assert sweep(folder, KEEP).objects == 0


def test_the_pinned_reference_and_a_retrain_in_flight_stay(weeks: Weeks, folder: FolderStore) -> None:
    name = weeks.model.name
    for _ in range(12):
        weeks.pass_week()
    pin_profile(folder, name, 2, "ada", "the autumn show")
    record_decision(folder, name, make_decision("drift", weeks.now, ("retrain", "drift"), "in flight"))
    weeks.date()
    sweep(folder, KEEP)
    assert 2 in {record.generation for record in reference_records(folder, name)}
    assert 1 not in {record.generation for record in reference_records(folder, name)}
    assert find_result(folder, name, TrainResult, "t001"), "nothing of a retrain in flight may go"


def test_it_can_be_killed_at_any_moment(weeks: Weeks, folder: FolderStore, tmp_path: Path) -> None:
    for _ in range(9):
        weeks.pass_week()
    shutil.copytree(tmp_path / "store", tmp_path / "before", copy_function=shutil.copy2)
    total = traced(partial(sweep, folder, KEEP))
    whole = {key for key in folder.list("") if not key.startswith("sweeps/")}
    for moment in range(1, 21):
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(tmp_path / "before", tmp_path / "store", copy_function=shutil.copy2)
        again = partial(sweep, FolderStore(tmp_path / "store"), KEEP)
        ended = forked(partial(traced, again, moment * total // 21))
        assert os.WIFSIGNALED(ended)
        weeks.installation = installed(FolderStore(tmp_path / "store"))
        weeks.store = weeks.installation.store
        require_whole(weeks)
        sweep(weeks.store, KEEP)
        assert {key for key in weeks.store.list("") if not key.startswith("sweeps/")} == whole


def test_a_manifest_of_a_later_version_stops_it_before_anything_is_deleted(weeks: Weeks, folder: FolderStore) -> None:
    for _ in range(6):
        weeks.pass_week()
    folder.write("datasets/adire/later/manifest.json", b'{"schema_version": 2}')
    before = [*folder.scan("")]
    with pytest.raises(DocumentNewer):
        sweep(folder, KEEP)
    assert [*folder.scan("")] == before


def test_a_rule_cannot_delete_what_the_inventory_keeps(
    weeks: Weeks, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    weeks.pass_week()
    monkeypatch.setattr(Sweep, "_logs", lambda self: self.store.scan("models/adire/promotions/"))
    with pytest.raises(SweepRefused, match=r"models/adire/promotions/000001\.json"):
        sweep(folder, KEEP)
    assert champion(folder, "adire")


def test_a_release_that_never_came_into_the_ledger_goes_as_a_whole(weeks: Weeks, folder: FolderStore) -> None:
    weeks.pass_week()
    for name in ("manifest.json", "README.md"):
        folder.write(f"models/adire/releases/lost/{name}", b"{}")
    weeks.date()
    sweep(folder, KEEP)
    assert [*folder.list("models/adire/releases/lost/")]
    weeks.now += 31 * DAY
    sweep(folder, KEEP)
    assert not [*folder.list("models/adire/releases/lost/")]


def test_the_inventory() -> None:
    assert len({place.pattern for place in inventory.PLACES}) == len(inventory.PLACES)
    for place in inventory.PLACES:
        assert (place.life in {"age", "reference"}) == bool(place.retention), place.pattern
        assert not place.retention or place.retention in Retention.model_fields
    used = {place.retention for place in inventory.PLACES} - {""}
    assert used | {"artifacts"} == set(Retention.model_fields)
    assert place_of("models/a/promotions/000001.json") is not None
    assert place_of("models/a/promotions/deeper/000001.json") is None
    assert place_of("elsewhere") is None
    assert Place("a/<b>/…", "", "", "age").names("a/b/c/d")


def test_notifications_of_earlier_versions_are_old(folder: FolderStore) -> None:
    keys = ["pending/cloth/1", "notifications/seen/1", "notifications/1"]
    for key in keys:
        folder.write(key, b"")
    gone = Sweep(folder, KEEP, datetime.now(UTC) + 400 * DAY).all()
    assert sorted(each.key for each in gone) == sorted(keys)
