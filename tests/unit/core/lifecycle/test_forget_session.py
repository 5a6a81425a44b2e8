"""A session is forgotten: its words are then in no byte of the store, whatever was killed meanwhile."""

import gzip
import json
import shutil
import tempfile
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from infra.base.visitors import FIRST_TASTE, NEW_TASTE
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.drift.explain import Topic
from tasks.core.installation import Installation
from tasks.core.lifecycle.forget_session import Forgotten, forget_session
from tasks.core.models.images import png
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.embeddings import text_key
from tasks.core.monitoring.records import Recent, read_records, recent_key, report_key, write_record
from tasks.core.monitoring.reference import load_profile, reference_records
from tasks.core.registry.results import EvaluationResult, get_result, render_folder, save_result
from tasks.core.reporting.drift_report import write_pages
from tasks.core.retraining.decisions import make_decision
from tasks.core.store import FolderStore, Store
from tasks.core.store.documents import digest, render
from tasks.core.traffic.compaction import compact
from tasks.core.traffic.feedback import Vote, read_votes, write_votes
from tasks.core.traffic.prompt_log import read_lines, write_lines
from tests.adire import adire
from tests.candidates import evaluated
from tests.ring_store import record
from tests.shop import MODEL, NOW, SPEC, CountingClip, ago, line, promote, visit
from tests.stopping_store import Stopped, StoppingStore

WORD = "zanzibarzebra"
PROMPTS = [f"{WORD} \u2028 rings <number {k}> in adire_style" for k in range(4)]
SHARED = "large rings in adire_style that two people want"
CANARY, OTHER = (
    "ca7a0000000000aa",
    "fedcba9876543210",
)  # the canary is in the half of the reference whose texts are kept
QUIET = SPEC.model_copy(update={"evidently": "never"})


@pytest.fixture(scope="module")
def clip() -> CountingClip:
    return CountingClip(adire())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, clip: CountingClip) -> Path:
    """The folder of a store in which everything that can quote a prompt quotes the canary's."""
    place = tmp_path_factory.mktemp("made") / "store"
    store = FolderStore(place)
    promote(store)
    visit(store, 1300, FIRST_TASTE, (240, 24.1))
    visit(store, 300, NEW_TASTE, (23.9, 0.1), seed=2)
    for hours in (100, 60, 30, 5, 3):
        lines = [line(hours + k / 10, f"{hours}-{k}", text, CANARY) for k, text in enumerate([*PROMPTS, SHARED])]
        write_lines(store, MODEL, lines)
        votes = [vote(each.request_id, CANARY, hours) for each in lines[:2]]
        write_votes(store, MODEL, [*votes, vote(f"other-{hours}", OTHER, hours)])
    write_lines(store, MODEL, [line(4, "shared", SHARED, OTHER)])
    compact(store, MODEL, ago(50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: NOW)
        installation = Installation(Settings(cache=place.parent / "cache", store=str(place)), store)
        check = DriftCheck(installation, adire(), QUIET, clip)
        found = check.run()
        quote(store, check)
    assert found.verdict == "retrain"
    judge(store)
    return place


def vote(request_id: str, session: str, hours: float) -> Vote:
    return Vote(request_id=request_id, time=ago(hours), liked=True, release="r", generation=1, session=session)


def quote(store: Store, check: DriftCheck) -> None:
    """A report that quotes the canary, with its page, and the newest checks as an earlier version wrote them."""
    topic = Topic(
        share_reference=0.0, share_current=0.2, rows=60, medoids=(PROMPTS[0], SHARED), terms=("rings", WORD, "large")
    )
    time = NOW + timedelta(minutes=1)
    about = {"key": report_key(MODEL, time), "time": time, "fresh": (PROMPTS[1], SHARED), "topics": (topic,)}
    told = record().model_copy(update=about)
    write_record(store, told)
    write_pages(check, told, make_decision("drift", time, ("retrain", "it drifted"), told.key))
    store.write(told.key.replace("report.json", "evidently.html"), b"its words, counted")
    store.write(recent_key(MODEL), render(Recent(checks=(told,))))


def judge(store: Store) -> None:
    """An evaluation on the canary's prompts, with its grids, its renders and the page of the decision."""
    result = get_result(store, MODEL, EvaluationResult, evaluated(store, "a", 0))
    beside = f"models/{MODEL}/results/evaluate/{result.key}"
    scores = {
        measure: values | dict.fromkeys((*PROMPTS, SHARED), (0.5,)) for measure, values in result.challenger.items()
    }
    evidence = result.evidence.model_copy(
        update={"drifted": (*PROMPTS, SHARED), "refusals": (f"{PROMPTS[0]}, seed 1",)}
    )
    grids = {kind: f"{beside}-{kind}.png" for kind in ("fixed", "drifted")}
    about = {"drifted": (*PROMPTS, SHARED), "challenger": scores, "evidence": evidence, "grids": grids}
    save_result(store, result.model_copy(update=about))
    for key in (*grids.values(), *(f"{render_folder(MODEL, 'base')}way/{digest(t)}.png" for t in (PROMPTS[2], SHARED))):
        store.write(key, png(Image.new("RGB", (4, 4))))
    decision = {"key": "p", "evaluation": result.key, "decision": {"reasons": [f"blank: {PROMPTS[3]}, seed 5"]}}
    store.write(f"models/{MODEL}/results/promote/p.json", json.dumps(decision, ensure_ascii=False).encode())
    store.write(f"models/{MODEL}/results/promote/p.html", f"<p>{PROMPTS[3]}".encode())


@pytest.fixture
def store(made: Path, tmp_path: Path) -> StoppingStore:
    shutil.copytree(made, tmp_path / "store")
    return StoppingStore(tmp_path / "store")


def places(store: Store) -> set[str]:
    """The keys of all objects in whose bytes the canary is, by any means of packing."""
    needles = [WORD.encode(), CANARY.encode(), *(text_key(text) for text in PROMPTS)]
    return {key for key in store.list("") if any(n in data for n in needles for data in unpacked(key, store.read(key)))}


def unpacked(key: str, data: bytes) -> list[bytes]:
    if key.endswith(".gz"):
        return [gzip.decompress(data)]
    if not key.endswith(".safetensors") or b"{" not in data:
        return [data]
    return [data, *tensors(data)]


def tensors(data: bytes) -> list[bytes]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with safe_open(file.name, framework="numpy") as held:
            names = list(held.keys())
            texts = [zlib.decompress(held.get_tensor("texts").tobytes())] if "texts" in names else []
            return [str(held.metadata()).encode(), *texts, *(held.get_tensor(name).tobytes() for name in names)]


def kinds(keys: set[str]) -> set[str]:
    """The places of the store that the keys are in."""
    return {"/".join(key.replace(f"/{MODEL}/", "/").split("/")[: 1 + 2 * key.startswith("models/")]) for key in keys}


def forget(store: Store) -> Forgotten:
    return forget_session(store, MODEL, CANARY)


def test_nothing_of_a_session_is_left(store: StoppingStore) -> None:
    assert kinds(places(store)) == {
        "prompts",
        "feedback",
        "models/drift/hours",
        "models/drift/recent.json",
        "models/drift/reports",
        "models/drift/profiles",
        "models/drift/embeddings",
        "models/results/evaluate",
        "models/results/promote",
    }
    done = forget(store)
    assert places(store) == set()
    assert (done.lines, len(done.hours), done.damaged) == (35, 5, ())
    assert not [key for key in store.list("") if key.endswith("evidently.html")]
    assert (len(done.reports), len(done.references), done.evaluations) == (1, 1, ("evaluation-a-0",))
    assert not list(store.list(f"models/{MODEL}/forgetting/"))


def test_what_others_did_is_still_there(store: StoppingStore) -> None:
    before = [each for each in read_lines(store, MODEL, ago(999), NOW) if each.session != CANARY]
    votes = [each for each in read_votes(store, MODEL, ago(999), NOW) if each.session != CANARY]
    forget(store)
    assert read_lines(store, MODEL, ago(999), NOW) == before
    assert read_votes(store, MODEL, ago(999), NOW) == votes
    told = read_records(store, MODEL)[-1]
    assert told.fresh == (SHARED,)
    assert [(topic.medoids, topic.terms) for topic in told.topics] == [((SHARED,), ("rings", "large"))]
    result = get_result(store, MODEL, EvaluationResult)
    assert SHARED in result.drifted
    assert len(set(result.drifted)) == 5
    assert set(result.drifted) == set(result.evidence.drifted) < set(result.challenger["prompt_fidelity"])
    assert set(result.grids) == {"fixed"}
    assert [key.rpartition("/")[2] for key in store.list(f"models/{MODEL}/renders/")] == [f"{digest(SHARED)}.png"]


def test_the_monitor_goes_on_with_the_same_reference(
    store: StoppingStore, clip: CountingClip, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    (frozen,) = reference_records(store, MODEL)
    profile = load_profile(store, frozen)
    forget(store)
    (after,) = reference_records(store, MODEL)
    plain = load_profile(store, after)
    assert after == frozen.model_copy(update={"arrays": after.arrays})
    assert (plain.reference == profile.reference).all()
    assert sum(text == "" for text in plain.texts) == sum(WORD in text for text in profile.texts) > 0
    assert DriftCheck(Installation(settings, store), adire(), SPEC, clip).run().verdict == "retrain"
    assert places(store) == set()


def test_single_requests_are_forgotten_with_their_votes(store: StoppingStore) -> None:
    done = forget_session(store, MODEL, requests=["30-0", "5-1"])
    assert done.lines == 4
    kept = {each.request_id for each in read_lines(store, MODEL, ago(999), NOW)}
    assert {"30-0", "5-1"}.isdisjoint(kept)
    assert {"30-1", "5-0"} <= kept
    assert done.reports == (), "the session has asked the same at other times"


def test_an_unknown_session_changes_nothing(store: StoppingStore) -> None:
    assert forget_session(store, MODEL, "unknown") == Forgotten(0, (), (), (), (), ())
    assert store.changes == 0


def test_again_it_changes_nothing(store: StoppingStore) -> None:
    forget(store)
    changes = store.changes
    assert forget(store) == Forgotten(0, (), (), (), (), ())
    assert store.changes == changes


def test_damaged_objects_of_the_log_are_named(store: StoppingStore) -> None:
    key = f"prompts/{MODEL}/dt=2026-03-20/hour=01/damaged.jsonl.gz"
    store.write(key, b"no gzip")
    assert forget(store).damaged == (key,)


def test_killed_at_any_change_it_is_finished_by_the_next_call(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "whole")
    whole = StoppingStore(tmp_path / "whole")
    forget(whole)
    for number in range(1, whole.changes + 1, 4):
        shutil.copytree(made, tmp_path / f"{number}")
        store = StoppingStore(tmp_path / f"{number}", number)
        with pytest.raises(Stopped):
            forget(store)
        forget(store)
        assert places(store) == set(), number
        shutil.rmtree(tmp_path / f"{number}")
