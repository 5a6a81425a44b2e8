"""Two models on datasets of their own, on one Prefect server and one store: neither touches what is the other's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_TASTE, draw_uploads, log_lines
from tasks.core.config.model import read_model
from tasks.core.monitoring.records import read_records
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import verify_release
from tasks.core.retraining.decisions import RetrainDecision, read_decisions
from tasks.core.store import open_store
from tasks.core.traffic.prompt_log import write_lines
from tests.e2e.deployments.server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NAMES = ("adire", "batik")
QUICK = read_model(Path(__file__).with_name("quick.yaml"))


class Rings:
    """The two models, and what happens to each."""

    def __init__(self, home: Path, url: str) -> None:
        models = [QUICK.model_copy(update={"name": name, "datasets": (name,)}) for name in NAMES]
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

    def ends(self, name: str, retrains: int) -> None:
        """Wait until so many retrains have ended."""
        self.server.until(lambda: len(self.outcomes(name)) == retrains, f"{retrains} retrains of {name} have ended")

    def served(self, name: str) -> str:
        """The release that is served, which is the ledger's."""
        channel, _ = read_channel(self.store, name)
        assert channel
        assert (channel.generation, channel.release) == (len(entries := history(self.store, name)), entries[-1].release)
        return channel.release

    def retrains(self, name: str) -> list[str]:
        """The causes of all retrains of a model."""
        return [d.cause for d in self.decisions(name) if d.action == "retrain"]

    def outcomes(self, name: str) -> list[str]:
        return [d.outcome for d in self.decisions(name) if d.cause == "outcome"]

    def decisions(self, name: str) -> list[RetrainDecision]:
        return read_decisions(self.store, name)


@pytest.fixture(scope="module", params=["folder", "s3"])
def rings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rings]:
    home = tmp_path_factory.mktemp("rings")
    folder = request.param == "folder"
    url = str(home / "store") if folder else f"s3://{request.getfixturevalue('bucket')}/{home.name}"
    found = Rings(home, url)
    yield found
    found.server.stack.stop()


def test_uploads_to_both_at_once_end_with_a_champion_each(rings: Rings) -> None:
    for seed, name in enumerate(NAMES):
        rings.upload(name, seed)
    for name in NAMES:
        rings.ends(name, 1)
        assert (rings.retrains(name), rings.outcomes(name)) == (["data"], ["promote"])
        (entry,) = history(rings.store, name)
        assert (entry.model, entry.dataset) == (name, name)
    assert rings.served("adire") != rings.served("batik")


def test_an_upload_to_one_and_drift_of_the_other_retrain_each_alone(rings: Rings) -> None:
    rings.visitors("adire", FIRST_TASTE)
    rings.visitors("batik", NEW_TASTE)
    state, message = rings.server.finish("monitor-drift", {})
    assert state == "COMPLETED", message
    verdicts = {name: read_records(rings.store, name)[-1].verdict for name in NAMES}
    assert verdicts == {"adire": "stable", "batik": "retrain"}
    rings.upload("adire", 7)
    for name in NAMES:
        rings.ends(name, 2)
        assert rings.served(name), "the real gate may have kept the champion"
    assert {name: rings.retrains(name) for name in NAMES} == {"adire": ["data", "data"], "batik": ["data", "drift"]}


def test_what_names_no_model_is_refused_with_the_list(rings: Rings) -> None:
    before = {name: history(rings.store, name) for name in NAMES}
    for deployment in ("roll-back", "promote-champion"):
        state, message = rings.server.finish(deployment, {})
        assert state == "FAILED"
        assert "adire, batik" in message
    assert {name: history(rings.store, name) for name in NAMES} == before


def test_a_withdrawal_in_one_leaves_the_other(rings: Rings) -> None:
    entries, other, served = history(rings.store, "batik"), history(rings.store, "adire"), rings.served("adire")
    spec = {"model": "batik", "generation": len(entries), "reason": "a picture was licensed wrongly"}
    state, message = rings.server.finish("withdraw-release", {"spec": spec | {"delete_weights": True}})
    assert state == "COMPLETED", message
    assert rings.served("batik") != entries[-1].release
    assert (history(rings.store, "adire"), rings.served("adire")) == (other, served)
    verify_release(rings.store, "adire", served)


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


def test_what_a_model_owns_lies_under_its_name(rings: Rings) -> None:
    places = {key.split("/")[0] for key in rings.store.list("")}
    shared = {"installation.json", "uploads", "datasets", "blobs", "prompts", "embeddings", "outbox", "events"}
    assert places <= {"models", *shared}
    assert {key.split("/")[1] for key in rings.store.list("models/")} == set(NAMES)
