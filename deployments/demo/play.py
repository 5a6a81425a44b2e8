"""The whole pipeline on one machine: the services, the scenario, the report.

An interrupted demo resumes when started again; a finished one starts from scratch.
"""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from deployments.demo.console import Console
from deployments.demo.plan import DemoProgress, Scale
from deployments.stack import Stack, stop_leftovers
from infra.base.visitors import FIRST_TASTE, NEW_MOTIFS, draw_uploads
from tasks.core.config.model import read_model
from tasks.core.installation import open_installation


def play_demo(folder: Path, model: Path, data: Path | None, scale_file: Path | None, *, restart: bool) -> int:
    """Start the services, play the scenario, write the report, stop the services; returns 0 on success."""
    started, config = time.monotonic(), read_model(model)
    _prepare(folder, str(data.resolve()) if data else "", restart)
    scale = Scale.model_validate_json(scale_file.read_text(encoding="utf-8")) if scale_file else Scale()
    extra = {
        "DYEWORKS_CLOCK": str((folder / "home" / "clock").resolve()),
        "DYEWORKS_MONITOR_CRON": "* * * * * */10",  # every 10 seconds, while the demo waits for it
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",  # from when its schedule is resumed
        "DYEWORKS_RECONCILE_CRON": "0 0 1 1 *",  # never: an interrupted demo repeats its stage instead
        "DYEWORKS_RENDER_BATCH": "16",
        "DYEWORKS_TRUSTED_ADDRESSES": "127.0.0.1",  # the address of all its clients
    }
    stack = Stack(folder / "home", extra, model, (config.name,))
    os.environ.update(stack.environment)
    # Imported now, since Prefect's client reads its settings from the environment.
    from deployments.demo.report import write_report
    from deployments.demo.scenario import Scenario, play

    try:
        installation = open_installation()
        print(f"starting Prefect, its workers, the gateway and the storefront (logs in {stack.home}/logs)", flush=True)
        first = data or _first_pictures(folder / "pictures", scale)
        new = folder / "pictures" / "new"
        if not data and not new.exists():
            draw_uploads(new, scale.new_pictures, NEW_MOTIFS, seed=2)
        stack.start_all()
        before = DemoProgress.load(folder / "diary.json").elapsed
        console = Console(before + time.monotonic() - started)
        scenario = Scenario(stack, installation, config, scale, folder / "diary.json", console)
        scenario.took("services", time.monotonic() - started)
        console.line(f"Prefect UI: {stack.url('server')}   storefront: {stack.url('storefront')}")
        play(scenario, first, None if data else new)
        scenario.end()
        figures = write_report(installation.store, config, scenario.progress, folder)
        scenario.progress.finished = True
        scenario.progress.save(scenario.path)
    except KeyboardInterrupt:
        print("\nstopped; `dyeworks demo` resumes from here")
        return 130
    finally:
        stack.stop()
    print("\n".join(_last_lines(folder, figures)))
    return 0


def _last_lines(folder: Path, figures: dict[str, object]) -> list[str]:
    """The figures, and how to look around."""
    command = shlex.join((sys.argv[0], "up", "--home", str(folder / "home")))
    return [
        "",
        *(f"  {name}: {value}" for name, value in figures.items()),
        "",
        f"what happened, with pictures   {folder / 'report.html'}",
        f"the figures                    {folder / 'summary.json'}",
        f"the logs of the services       {folder / 'home' / 'logs'}",
        f"look around in what was made   {command}",
        "  It prints the addresses of the storefront, which draws with the model that was trained, and of the pages of",
        "  Prefect (runs, decisions, picture grids) and MLflow (trainings). ctrl-C stops it.",
    ]


def _prepare(folder: Path, data: str, restart: bool) -> None:
    """Kill leftover processes; keep the folder only if it is that of the same, unfinished demo."""
    stop_leftovers(folder / "home")
    path = folder / "diary.json"
    progress = DemoProgress.load(path)
    if restart or progress.finished or progress.data != data or not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        DemoProgress(data=data).save(path)
    else:
        print(f"resuming the demo that was interrupted after: {', '.join(progress.done) or 'its start'}", flush=True)


def _first_pictures(folder: Path, scale: Scale) -> Path:
    """The demo's own pictures, and three that must be rejected."""
    first = folder / "first"
    if not (first / "complete").exists():
        draw_uploads(first, scale.first_pictures, FIRST_TASTE, seed=1)
        (first / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing that is a picture")
        (first / "half.jpg").write_bytes((first / "adire-1-000.png").read_bytes()[:2000])
        (first / "empty.webp").write_bytes(b"")
        (first / "complete").touch()
    return first
