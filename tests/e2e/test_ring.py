"""The whole pipeline on a real server, killed in its first training and right after its promotion, and restarted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments.stack import stop_leftovers
from tasks.core.config.installation import ROOT

SCALE = {"first_pictures": 60, "new_pictures": 24, "history": 4000, "shifted": 5000, "window": 300, "steps": 2}
PATIENCE = 1500  # seconds, also on a busy machine


def command(folder: Path) -> list[str]:
    (folder / "scale.json").write_text(json.dumps(SCALE))
    demo = [str(Path(sys.executable).with_name("dyeworks")), "demo", "--model", str(ROOT / "tests/e2e/ring.yaml")]
    return [*demo, "--folder", str(folder / "demo"), "--scale", str(folder / "scale.json")]


def environment() -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DYEWORKS_", "MLFLOW_"))}
    return plain | {"OMP_NUM_THREADS": "1"}


def kill_when(folder: Path, there: str) -> None:
    """Start the demo, and kill it with all services once its store has a file like `there`."""
    log = folder / f"killed-at-{there.split('/')[2]}.log"
    with log.open("wb") as out:
        demo = subprocess.Popen(command(folder), cwd=ROOT, env=environment(), stdout=out, stderr=out)
    deadline = time.monotonic() + PATIENCE
    while not list((folder / "demo/home/store").glob(there)):
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    assert stop_leftovers(folder / "demo/home"), "the services of a killed demo run until they are stopped"


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo that was killed twice and then completed."""
    folder = tmp_path_factory.mktemp("ring")
    try:
        kill_when(folder, "models/*/checkpoints/*/step-*/checkpoint.json")
        kill_when(folder, "models/adire/promotions/000001.json")  # in the ledger, and not yet published
        done = subprocess.run(
            command(folder), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    finally:
        stop_leftovers(folder / "demo/home")  # leftovers of an interrupted demo would slow down all other tests
    (folder / "last.log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return folder / "demo"


@pytest.mark.e2e
def test_drift_retrains_the_model(ring: Path) -> None:
    summary = json.loads((ring / "summary.json").read_text())
    assert summary["generations"] == 2
    assert summary["retrain_triggered_by"] == "drift"
    assert summary["psi_before"] < summary["threshold"] < summary["psi_after_shift"]
    assert summary["retrains"] == ["data", "drift"]
    assert summary["psi_after_retrain"] < summary["threshold"]


@pytest.mark.e2e
def test_killed_training_resumes_from_its_checkpoint(ring: Path) -> None:
    results = [json.loads(p.read_text()) for p in (ring / "home/store/models/adire/results/train").glob("*.json")]
    assert sorted(r["resumed_from"] > 0 for r in results) == [False, True]


@pytest.mark.e2e
def test_invalid_uploads_are_quarantined(ring: Path) -> None:
    refusals = [json.loads(p.read_text()) for p in (ring / "home/store/quarantine/adire").glob("*.json")]
    assert {r["name"] for r in refusals} == {"broken.png", "half.jpg", "empty.webp"}
    assert all(r["reason"] for r in refusals)


@pytest.mark.e2e
def test_new_pictures_alone_start_no_retrain(ring: Path) -> None:
    decisions = [json.loads(p.read_text()) for p in sorted((ring / "home/store/models/adire/decisions").glob("*.json"))]
    actions = [d["action"] for d in decisions if d["cause"] == "data"]
    assert actions == ["retrain", "declined"]
    outcomes = [d["outcome"] for d in decisions if d["cause"] == "outcome"]
    assert outcomes == ["promote", "promote"]


@pytest.mark.e2e
def test_drift_is_explained_in_page_and_json(ring: Path) -> None:
    drift = ring / "home/store/models/adire/drift"
    # The end of the demo may interrupt a check, so the newest record may have no page yet.
    pages = {p.parent: p.read_text() for p in drift.glob("reports/*/report.html")}
    ((folder, page),) = [(f, text) for f, text in pages.items() if "Decision: retrain" in text]
    record = json.loads((folder / "report.json").read_text())
    assert "moons" in {term for topic in record["topics"] for term in topic["terms"]}
    assert all("moons" in prompt for prompt in record["topics"][0]["medoids"])
    assert "moons" in page
    assert "plotly" in (folder / "evidently.html").read_text()
    assert 'dyeworks_drift_verdict{model="adire",verdict="stable"} 1.0' in (drift / "metrics.prom").read_text()
    frozen = [json.loads(p.read_text())["generation"] for p in drift.glob("profiles/frozen/*.json")]
    assert sorted(frozen) == [1, 2]


@pytest.mark.e2e
def test_report_is_self_contained(ring: Path) -> None:
    page = (ring / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 3
    assert 'src="http' not in page
    assert not list((ring / "home").rglob("outbox/*.json"))
