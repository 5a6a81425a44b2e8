"""Groups: repeated prompts and sessions are capped, and never split between halves or folds."""

from collections import Counter

import numpy as np

from tasks.core.drift import fit_profile
from tasks.core.drift.groups import Seen, grouped
from tasks.core.drift.rows import capped, fold_of, half_of_groups, row_hashes
from tests.unit.core.drift.kinds import ENCODER, SPEC, Checker, World, verdicts


def test_one_prompt_as_a_fifth_of_clean_traffic_is_no_drift(run: Checker) -> None:
    world = World().seeded(400)
    rows, groups = world.with_button(8000)
    profile = fit_profile(rows, encoder=ENCODER, groups=groups, spec=SPEC)
    reports = [run(*world.with_button(300), profile=profile) for _ in range(30)]
    assert verdicts(reports)["stable"] >= 29
    assert abs(np.mean([report.psi for report in reports])) < 0.02


def test_one_repeated_prompt_without_groups_is_capped(run: Checker) -> None:
    world = World().seeded(401)
    report = run(world.with_button(300)[0])
    assert report.n == 240 + SPEC.session_cap
    assert report.verdict != "retrain"


def test_one_session_with_two_fifths_of_the_rows_is_capped(run: Checker) -> None:
    world = World().seeded(500)
    for _ in range(10):
        rows = np.concatenate([world.window(300), world.window(200, 1.0)])
        groups = np.concatenate([np.arange(300), np.full(200, 10_000)])
        report = run(rows, groups)
        assert report.n == 320
        assert report.verdict != "retrain"
    assert run(rows, np.arange(500)).verdict == "retrain", "the same rows from as many sessions are drift"


def test_groups_are_never_split() -> None:
    groups = np.random.default_rng(0).integers(0, 400, 5000)
    side, fold = half_of_groups(groups, np.random.default_rng(0)), fold_of(groups, 5)
    assert not set(groups[side]) & set(groups[~side])
    assert 0.45 < side.mean() <= 0.5
    assert all(len(set(fold[groups == group])) == 1 for group in range(400))
    assert set(fold.tolist()) == set(range(5))
    assert fold_of(np.array([0, 1, -1, 2**62]), 5).tolist() == [0, 0, 1, 0], "the hash must never change"


def test_the_cap_and_the_hash_of_a_row() -> None:
    groups = np.repeat([5, 6, 7], [50, 20, 3])
    kept = capped(groups, 20, np.random.default_rng(0))
    assert Counter(groups[kept].tolist()) == {5: 20, 6: 20, 7: 3}
    rows = World().window(3)[[0, 1, 0, 2]]
    ids = row_hashes("rows", rows)
    assert ids[0] == ids[2]
    assert len(set(ids.tolist())) == 3


def test_a_text_counts_for_as_many_rows_as_the_reference_makes_likely() -> None:
    rows = World().window(6)
    reference = rows[np.repeat(np.arange(5), [1000, 100, 30, 10, 1])]
    seen = Seen.of(row_hashes("reference", reference))
    window = rows[np.repeat([0, 1, 2, 5], [100, 90, 25, 60])]
    ids, kept = grouped(row_hashes("window", window), None, 20, seen, np.random.default_rng(0))
    counts = Counter(row_hashes("window", window)[kept].tolist())
    first, second, third, new = (counts[h] for h in row_hashes("rows", rows[[0, 1, 2, 5]]).tolist())
    assert (first, third, new) == (100, 20, 20), "an example button, a rare text and one that was never seen"
    assert 20 < second < 90
    assert len(set(ids[:100].tolist())) == 100, "visitors of their own: spread over all folds"
    assert len(set(ids[-60:].tolist())) == 1


def test_given_groups_are_taken_as_they_are() -> None:
    rows = World().window(60)
    hashes = row_hashes("rows", rows)
    ids, kept = grouped(hashes, np.zeros(60, np.int64), 20, Seen.of(hashes), np.random.default_rng(0))
    assert (set(ids.tolist()), len(kept)) == ({0}, 20)


def test_groups_that_only_rename_the_texts_are_texts(run: Checker) -> None:
    world = World().seeded(405)
    rows, groups = world.with_button(8000)
    hashed = [hash(row.tobytes()) for row in rows]
    by_text, by_name = (fit_profile(rows, encoder=ENCODER, groups=g, spec=SPEC) for g in (None, hashed))
    assert by_text.digest == by_name.digest
    reports = []
    for _ in range(20):
        window, _ = world.with_button(300)
        reports.append(run(window, np.array([hash(row.tobytes()) for row in window]), by_name))
    assert verdicts(reports)["stable"] >= 19
    visitors = [run(world.with_button(300)[0], np.arange(300), by_name) for _ in range(20)]
    assert verdicts(visitors)["stable"] >= 19, "a history by texts, a window by visitors"
    sessions = fit_profile(rows, encoder=ENCODER, groups=groups, spec=SPEC)
    assert verdicts([run(world.with_button(300)[0], None, sessions) for _ in range(20)])["stable"] >= 19
