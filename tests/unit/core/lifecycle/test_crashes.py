"""`kill -9` at forty moments of promote and publish: readers see a consistent state, and the next run completes it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.core.config.installation import ROOT

MOMENTS = 40


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path)
    return f"s3://{request.getfixturevalue('bucket')}/{uuid4().hex}"


def test_a_kill_at_any_moment_leaves_a_consistent_state(place: str, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "tests.crashes", f"{place}/store", f"{place}/public", str(MOMENTS)]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *found, last = [json.loads(one) for one in done.stdout.splitlines()]
    assert len(found) == MOMENTS, done.stderr
    assert sum(one["killed"] for one in found) >= MOMENTS - 1, "the last line may be the end"
    assert len({one["line"] for one in found}) == MOMENTS < last["lines"]
    for one in found:
        assert set(one["before"]) <= {1, 2}, one
        assert one["after"] == [2, 2], one
        assert one["ledger"] == [1, 2], one
        assert one["releases"] == one["named"], "nothing left by a crash counts twice"
    assert {tuple(one["before"]) for one in found} == {(1, 1), (2, 1), (2, 2)}, "own channel first, then the other"
