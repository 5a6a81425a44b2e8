"""The whole ring on one machine: the services, the story, the report.

Killed at any moment and started again, it resumes; after it has finished, it starts again from nothing.
"""

import os
import shutil
from pathlib import Path

from deployments.demo.plan import Diary, Scale
from deployments.stack import Stack, stop_leftovers
from infra.base.visitors import FIRST_TASTE, NEW_MOTIFS, draw_uploads
from tasks.core.config.model import read_model
from tasks.core.installation import open_installation


def play_demo(folder: Path, model: Path, data: Path | None, scale_file: Path | None, *, restart: bool) -> int:
    """Start the services, play the story, write the report, stop the services; 0 when it came to its end."""
    config = read_model(model)
    _prepare(folder, str(data.resolve()) if data else "", restart)
    scale = Scale.model_validate_json(scale_file.read_text(encoding="utf-8")) if scale_file else Scale()
    extra = {
        "DYEWORKS_CLOCK": str((folder / "clock").resolve()),
        "DYEWORKS_MONITOR_CRON": "* * * * *",
        "DYEWORKS_RECONCILE_CRON": "0 0 1 1 *",  # a stage that is cut off is run again here, so nothing is left behind
        "DYEWORKS_RENDER_BATCH": "16",
        "DYEWORKS_TRUSTED_ADDRESSES": "127.0.0.1",  # all of its visitors come from there
    }
    stack = Stack(folder / "home", extra, model, config.name)
    os.environ.update(stack.environment)
    # Prefect's client takes its settings from the environment that was just set.
    from deployments.demo.report import write_report
    from deployments.demo.scenario import Scenario, play

    try:
        installation = open_installation()
        print(f"starting Prefect, its workers, the webhook and the storefront (logs in {stack.home}/logs)", flush=True)
        stack.start_all()
        scene = Scenario(stack, installation, config, scale, folder / "diary.json")
        first = data or _first_pictures(folder / "pictures", scale)
        new = folder / "pictures" / "new"
        if not data and not new.exists():
            draw_uploads(new, scale.new_pictures, NEW_MOTIFS, seed=2)
        scene.console.line(f"Prefect's page: {stack.url('server')}   storefront: {stack.url('storefront')}")
        play(scene, first, None if data else new)
        scene.note("The demo ends")
        figures = write_report(installation.store, config, scene.diary, folder)
        scene.diary.finished = True
        scene.diary.save(scene.path)
    except KeyboardInterrupt:
        print("stopped; `dyeworks demo` resumes from here")
        return 130
    finally:
        stack.stop()
    for name, value in figures.items():
        print(f"  {name}: {value}")
    print(f"report: {folder / 'report.html'}\nsummary: {folder / 'summary.json'}")
    return 0


def _prepare(folder: Path, data: str, restart: bool) -> None:
    """Kill what a killed demo has left running; keep its folder only if that demo was the same and unfinished."""
    stop_leftovers(folder / "home")
    path = folder / "diary.json"
    diary = Diary.load(path)
    if restart or diary.finished or diary.data != data or not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        Diary(data=data).save(path)
    else:
        print(f"resuming the demo that was cut off after: {', '.join(diary.done) or 'its start'}", flush=True)


def _first_pictures(folder: Path, scale: Scale) -> Path:
    """The demo's own pictures, and three that must be refused."""
    first = folder / "first"
    if not (first / "complete").exists():
        draw_uploads(first, scale.first_pictures, FIRST_TASTE, seed=1)
        (first / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing that is a picture")
        (first / "half.jpg").write_bytes((first / "adire-1-000.png").read_bytes()[:2000])
        (first / "empty.webp").write_bytes(b"")
        (first / "complete").touch()
    return first
