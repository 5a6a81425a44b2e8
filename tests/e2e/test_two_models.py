"""Two models on datasets of their own, on one Prefect server and one store: neither touches what is the other's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_TASTE, draw_uploads, log_lines
from tasks.core.config.model import ModelConfig
from tasks.core.monitoring.records import read_records
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.retraining.decisions import RetrainDecision, read_decisions
from tasks.core.store import Store, open_store
from tasks.core.traffic.prompt_log import write_lines
from tests.adire import adire
from tests.e2e.deployments.server import Server
from tests.s3_server import s3_server

pytestmark = pytest.mark.e2e
NAMES = ("adire", "batik")
QUICK = {
    "train": {
        "resolution": 64,
        "steps": 10,
        "batch": 2,
        "accumulation": 1,
        "rank": 4,
        "alpha": 4,
        "checkpoint_every": 10_000,
        "sample_every": 10_000,
    },
    "evaluation": {
        "prompts": {
            "version": "two",
            "trigger": ["large rings in {trigger}", "small dots in {trigger}"],
            "class_noun": [],
            "general": ["large red stripes on white"],
            "groups": ["rings", "dots"],
        },
        "seeds": [1, 2],
        "steps": 2,
        "drifted": 2,
    },
    "gate": {
        "floor": 0.0,
        "max_gap": 9,
        "max_copied": 1,
        "max_nearness": 1,
        "max_forgetting": 9,
        "min_diversity": 0,
        "margins": dict.fromkeys(
            ("prompt_fidelity", "style_fidelity", "diversity", "forgetting", "near_copies", "render_seconds"), 99
        ),
    },
    "policy": {"hits": 1, "of": 1, "cooldown_hours": 0, "weekly_gpu_hours": 50, "min_new_pictures": 4},
    "monitor": {"reference_hours": 12, "drift": {"min_effective": 100, "draws": 20000}},
}


class Rings:
    """The two models, and what happens to each."""

    def __init__(self, home: Path, url: str) -> None:
        models: list[ModelConfig] = [adire(name=name, overrides=QUICK) for name in NAMES]
        self.server, self.store = Server(home, models, url), open_store(url)

    def upload(self, name: str, seed: int) -> None:
        """Eight pictures, which are ingested."""
        with TemporaryDirectory() as place:
            draw_uploads(Path(place), 8, FIRST_TASTE, seed=seed, pixels=64)
            for path in sorted(Path(place).iterdir()):
                self.store.write(f"uploads/{name}/{path.name}", path.read_bytes())
        self.server.create("ingest-upload", {"spec": {"dataset": name}}).raise_for_status()

    def visitors(self, name: str, taste: dict[str, float]) -> None:
        """Nine days of the first taste, then one of this one."""
        now = datetime.now(UTC)
        for days, wanted, count, seed in (((10, 1.01), FIRST_TASTE, 4000, 1), ((0.9, 0), taste, 400, 2)):
            start, end = (now - timedelta(days=d) for d in days)
            write_lines(self.store, name, log_lines(count, wanted, start, end, seed))

    def serves(self, name: str, generation: int) -> None:
        """Wait until a generation is served and its retrain has its outcome."""

        def served() -> bool:
            channel, _ = read_channel(self.store, name)
            return bool(channel and channel.generation == generation and len(self.outcomes(name)) == generation)

        self.server.until(served, f"generation {generation} of {name} is served")

    def retrains(self, name: str) -> list[str]:
        """The causes of all retrains of a model."""
        return [d.cause for d in self.decisions(name) if d.action == "retrain"]

    def outcomes(self, name: str) -> list[str]:
        return [d.outcome for d in self.decisions(name) if d.cause == "outcome"]

    def decisions(self, name: str) -> list[RetrainDecision]:
        return read_decisions(self.store, name)


@pytest.fixture(scope="module", params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def rings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rings]:
    home = tmp_path_factory.mktemp("rings")
    if request.param == "folder":
        yield from started(home, str(home / "store"))
        return
    with s3_server() as bucket:
        yield from started(home, f"s3://{bucket}/{home.name}")


def started(home: Path, url: str) -> Iterator[Rings]:
    found = Rings(home, url)
    yield found
    found.server.stack.stop()


def test_uploads_to_both_at_once_end_with_a_champion_each(rings: Rings) -> None:
    for seed, name in enumerate(NAMES):
        rings.upload(name, seed)
    for name in NAMES:
        rings.serves(name, 1)
        assert (rings.retrains(name), rings.outcomes(name)) == (["data"], ["promote"])
        (entry,) = history(rings.store, name)
        assert (entry.model, entry.dataset) == (name, name)
    assert history(rings.store, "adire")[0].release != history(rings.store, "batik")[0].release


def test_an_upload_to_one_and_drift_of_the_other_retrain_each_alone(rings: Rings) -> None:
    rings.visitors("adire", FIRST_TASTE)
    rings.visitors("batik", NEW_TASTE)
    state, message = rings.server.finish("monitor-drift", {})
    assert state == "COMPLETED", message
    assert {name: read_records(rings.store, name)[-1].verdict for name in NAMES} == {
        "adire": "stable",
        "batik": "retrain",
    }
    rings.upload("adire", 7)
    for name in NAMES:
        rings.serves(name, 2)
    assert {name: rings.retrains(name) for name in NAMES} == {"adire": ["data", "data"], "batik": ["data", "drift"]}
    assert {name: rings.outcomes(name) for name in NAMES} == dict.fromkeys(NAMES, ["promote"] * 2)


def test_what_names_no_model_is_refused_with_the_list(rings: Rings) -> None:
    before = {name: history(rings.store, name) for name in NAMES}
    for deployment in ("roll-back", "promote-champion"):
        state, message = rings.server.finish(deployment, {})
        assert state == "FAILED"
        assert "adire, batik" in message
    assert {name: history(rings.store, name) for name in NAMES} == before


def test_a_withdrawal_in_one_leaves_the_other(rings: Rings) -> None:
    first, other = history(rings.store, "batik")[0], history(rings.store, "adire")
    spec = {"model": "batik", "generation": 2, "reason": "a picture was licensed wrongly", "delete_weights": True}
    state, message = rings.server.finish("withdraw-release", {"spec": spec})
    assert state == "COMPLETED", message
    assert history(rings.store, "batik")[-1].release == first.release
    assert history(rings.store, "adire") == other
    channel, _ = read_channel(rings.store, "adire")
    assert channel
    assert (channel.generation, channel.release) == (2, other[-1].release)
    assert list(rings.store.list("models/adire/releases/"))


def test_a_model_whose_check_fails_stops_no_other(rings: Rings) -> None:
    before = len(read_records(rings.store, "batik"))
    broken = "models/adire/config/000099.json"
    rings.store.write(broken, b"{")
    state, message = rings.server.finish("monitor-drift", {})
    rings.store.delete(broken)
    assert state == "FAILED"
    assert "model adire: " in message
    assert "model batik: " not in message
    assert len(read_records(rings.store, "batik")) == before + 1


def test_the_store_is_empty_outside_of_what_each_model_owns(rings: Rings) -> None:
    store: Store = rings.store
    places = {key.split("/")[0] for key in store.list("")}
    assert places <= {
        *("models", "uploads", "datasets", "blobs", "prompts", "embeddings"),
        *("outbox", "events", "installation.json"),
    }
