"""The simulated visitors: what the demo, the tests and the benchmarks live on."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.base.visitors import FIRST_TASTE, NEW_MOTIFS, NEW_TASTE, draw_uploads, log_lines, requests, shifted
from infra.base.world import ADIRE_ONLY, COLOURS, MOTIFS, TRIGGER
from tasks.core.config.presets import IngestSpec
from tasks.core.data.ingest import ingest
from tasks.core.store import FolderStore

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=10)


def motif_of(prompt: str) -> str:
    (motif,) = (m for m in (*MOTIFS, *ADIRE_ONLY) if m in prompt)
    return motif


def test_requests_are_each_of_a_session_of_their_own() -> None:
    asked = requests(200, FIRST_TASTE, 1)
    assert len({r.session for r in asked}) == 200
    assert all(0 <= r.seed < 2**31 for r in asked)
    assert asked == requests(200, FIRST_TASTE, 1)
    assert not {r.session for r in asked} & {r.session for r in requests(200, FIRST_TASTE, 2)}


def test_people_ask_for_what_they_like() -> None:
    first = Counter(motif_of(r.prompt) for r in requests(1500, FIRST_TASTE, 3))
    assert set(first) == set(FIRST_TASTE)
    assert abs(first["rings"] / 1500 - 5 / 15) < 0.05
    new = Counter(motif_of(r.prompt) for r in requests(1500, NEW_TASTE, 3))
    assert 0.65 < sum(new[m] for m in NEW_MOTIFS) / 1500 < 0.76


def test_a_taste_moves_by_the_share_that_is_asked_for() -> None:
    moved = shifted({"rings": 3, "dots": 1}, {"moons": 2, "dots": 2}, 0.4)
    assert moved == pytest.approx({"rings": 0.45, "dots": 0.15 + 0.2, "moons": 0.2})


def test_some_want_coloured_cloth_and_not_the_house_style() -> None:
    prompts = [r.prompt for r in requests(1500, FIRST_TASTE, 4)]
    plain = [p for p in prompts if TRIGGER not in p]
    assert 0.06 < len(plain) / len(prompts) < 0.14
    assert all(sum(p.split().count(colour) for colour in COLOURS) == 2 for p in plain)


def test_a_log_is_sorted_and_lies_in_its_range() -> None:
    lines = list(log_lines(800, FIRST_TASTE, START, END, 1))
    times = [line.time for line in lines]
    assert len(lines) == 800
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] < END


def test_the_same_seed_logs_the_same_lines() -> None:
    lines = list(log_lines(300, FIRST_TASTE, START, END, 1))
    assert lines == list(log_lines(300, FIRST_TASTE, START, END, 1))
    ids = {line.request_id for line in lines}
    assert len(ids) == 300
    assert not ids & {line.request_id for line in log_lines(300, FIRST_TASTE, START, END, 2)}


def test_afternoons_are_busy() -> None:
    hours = Counter(line.time.hour for line in log_lines(4000, FIRST_TASTE, START, END, 5))
    assert sum(hours[h] for h in range(12, 19)) > 2 * sum(hours[h] for h in range(0, 7))


def test_sessions_have_one_to_three_requests() -> None:
    lines = list(log_lines(600, FIRST_TASTE, START, END, 6))
    sizes = Counter(Counter(line.session for line in lines).values())
    assert set(sizes) <= {1, 2, 3}
    assert sizes[1] > sizes[2] > 0
    assert all(len(line.session) == 16 for line in lines)
    pairs = [(a, b) for a, b in pairwise(lines) if a.session == b.session]
    assert 0.15 < np.mean([a.prompt == b.prompt for a, b in pairs]) < 0.45


def test_uploads_are_pictures_that_ingestion_takes(folder: FolderStore, tmp_path: Path) -> None:
    draw_uploads(tmp_path / "store/uploads/cloth", 12, NEW_TASTE, 4)
    manifest, refusals = ingest(folder, "cloth", IngestSpec())
    assert (len(manifest.items), refusals) == (12, ())
    assert all(TRIGGER in item.caption for item in manifest.items)
    assert {motif_of(item.caption) for item in manifest.items} == set(NEW_TASTE)
    draw_uploads(tmp_path / "again", 12, NEW_TASTE, 4)
    for path in (tmp_path / "again").glob("*.png"):
        before = np.asarray(Image.open(tmp_path / "store/uploads/cloth" / path.name))
        assert np.array_equal(np.asarray(Image.open(path)), before)
