"""The whole ring on one machine: `python -m deployments.demo [--data FOLDER]`.

Killed at any moment and started again, it goes on; after it has finished, it starts anew.
"""

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from deployments.demo.plan import Diary, Scale
from deployments.stack import ServiceFailed, Stack, stop_leftovers


def main() -> int:
    """Play the demo; 0 when it came to its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of pictures instead of the demo's own")
    parser.add_argument("--folder", type=Path, default=Path("build/demo"), help="where everything is kept")
    parser.add_argument("--scale", type=Path, help="JSON with other numbers, for tests")
    parser.add_argument("--anew", action="store_true", help="forget an earlier demo that was cut off")
    options = parser.parse_args()
    if options.data and not options.data.is_dir():
        print(f"dyeworks: DATA={options.data} is not a folder", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return play_demo(options)


def play_demo(options: argparse.Namespace) -> int:
    """Start the services, play the story, write the report, stop the services."""
    folder: Path = options.folder
    _prepare(folder, str(options.data.resolve()) if options.data else "", options.anew)
    scale = Scale.model_validate_json(options.scale.read_text(encoding="utf-8")) if options.scale else Scale()
    clock = str((folder / "clock").resolve())
    extra = {
        "DYEWORKS_CLOCK": clock,
        "DYEWORKS_MONITOR_CRON": "* * * * *",
        "DYEWORKS_RECONCILE_CRON": "0 0 1 1 *",  # a stage that is cut off is run again here, so nothing is left behind
        "DYEWORKS_RENDER_BATCH": "16",
        "DYEWORKS_TRUSTED_ADDRESSES": "127.0.0.1",  # all of its visitors come from there
    }
    stack = Stack(folder / "home", extra)
    os.environ.update(stack.environment)
    # These read the settings from the environment that was just set.
    from deployments.demo.report import write_report
    from deployments.demo.scenario import DemoFailed, Scenario, play
    from infra.base.visitors import NEW_MOTIFS, draw_uploads
    from tasks.core.config.installation import get_settings
    from tasks.core.errors import DyeworksError
    from tasks.core.store import open_store

    try:
        settings = get_settings()
        store = open_store(settings.store)
        print(
            "starting Prefect, its workers, the webhook and the storefront (logs in", f"{stack.home}/logs)", flush=True
        )
        stack.start_all()
        scene = Scenario(stack, store, settings, scale, folder / "diary.json")
        first = options.data or _first_pictures(folder / "pictures", scale)
        new = folder / "pictures" / "new"
        if not options.data and not new.exists():
            draw_uploads(new, scale.new_pictures, NEW_MOTIFS, seed=2)
        scene.tell.say(f"Prefect's page: {stack.url('server')}   storefront: {stack.url('storefront')}")
        play(scene, first, None if options.data else new)
        scene.note("The demo ends")
        figures = write_report(store, settings, scene.diary, folder)
        scene.diary.finished = True
        scene.diary.save(scene.path)
    except (DemoFailed, ServiceFailed, DyeworksError) as error:
        print(f"dyeworks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; `make demo` goes on from here")
        return 130
    finally:
        stack.stop()
    for name, value in figures.items():
        print(f"  {name}: {value}")
    print(f"report: {folder / 'report.html'}\nsummary: {folder / 'summary.json'}")
    return 0


def _prepare(folder: Path, data: str, anew: bool) -> None:
    """Kill what a killed demo has left running; keep its folder only if that demo was the same and unfinished."""
    stop_leftovers(folder / "home")
    path = folder / "diary.json"
    diary = Diary.load(path)
    if anew or diary.finished or diary.data != data or not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        Diary(data=data).save(path)
    else:
        print(f"going on with the demo that was cut off after: {', '.join(diary.done) or 'its start'}", flush=True)


def _first_pictures(folder: Path, scale: Scale) -> Path:
    """The demo's own pictures, and three that must be refused."""
    from infra.base.visitors import FIRST_TASTE, draw_uploads

    first = folder / "first"
    if not (first / "complete").exists():
        draw_uploads(first, scale.first_pictures, FIRST_TASTE, seed=1)
        (first / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing that is a picture")
        (first / "half.jpg").write_bytes((first / "adire-1-000.png").read_bytes()[:2000])
        (first / "empty.webp").write_bytes(b"")
        (first / "complete").touch()
    return first


if __name__ == "__main__":
    sys.exit(main())
