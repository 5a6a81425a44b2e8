"""What a terminal shows: a bar on a real pseudo-terminal, lines into a pipe."""

import contextlib
import os
import re
import subprocess
import sys
import termios
from pathlib import Path

from tasks.core.config.installation import ROOT

CODE = """
import sys
from pathlib import Path
from tasks.core.training.progress import progress
with progress(100, Path(sys.argv[1])) as shown:
    shown.resumed(40)
    for step in range(41, 101):
        shown.step(step, {"loss": 0.25, "steps_per_second": 2.0})
print("trained")
"""


def shown(folder: Path, stderr: int) -> str:
    """What it prints to stdout."""
    line = [sys.executable, "-c", CODE, str(folder)]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
    return done.stdout


def drawn(terminal: int) -> str:
    """All that was written to a pseudo-terminal, whose end is an error."""
    parts = []
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_a_terminal_shows_a_bar_with_the_time_left_and_no_lines(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    assert shown(tmp_path, theirs) == "resumes from the checkpoint of step 40\ntrained\n"
    os.close(theirs)
    screen = drawn(ours)
    last = re.split(r"[\r\n]+", screen.strip())[-1]
    assert last.startswith("100%|"), screen
    assert last.endswith("| 100/100, loss 0.2500, 2.00 steps/s, ETA 0 min 00 s")


def test_without_a_terminal_there_are_lines_and_nothing_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    with path.open("w") as stderr:
        lines = shown(tmp_path, stderr.fileno()).splitlines()
    assert path.read_text() == ""
    assert lines[:2] == [
        "resumes from the checkpoint of step 40",
        "step 42/100, loss 0.2500, 2.00 steps/s, ETA 0 min 29 s",
    ]
    assert lines[-2:] == ["step 100/100, loss 0.2500, 2.00 steps/s, ETA 0 min 00 s", "trained"]
    assert len(lines) == 32
