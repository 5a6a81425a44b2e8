"""`python -m tests.crashes STORE PUBLIC MOMENTS`: promote and publish, killed at so many moments, each time done again.

A line of JSON for each moment. The imports are paid once: every attempt is a fork of this process, which kills itself
with SIGKILL before the n-th line of dyeworks' code that it comes to.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import boto3

from tasks.core.config.installation import ROOT, Settings
from tasks.core.config.requests import PromoteRequest, PublishRequest
from tasks.core.errors import ResultMissing
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import fetch_release
from tasks.core.store import Store, open_store
from tasks.core.store.probe import require_conditions
from tests.candidates import QUICK, evaluated

CODE = str(ROOT / "tasks/core")


def advance(settings: Settings) -> None:
    """Promote the second challenger, and publish it."""
    request = PromoteRequest(evaluation="evaluation-b-1", gate=QUICK)
    store = open_store(settings.store)
    publish(store, settings, PublishRequest(generation=promote(store, settings, request).generation))


def prepared() -> dict[str, bytes]:
    """A store in which one generation is published and a challenger waits; every object of it."""
    with tempfile.TemporaryDirectory() as place:
        settings = Settings(store=f"{place}/store", publish_store=f"{place}/public")
        store = open_store(settings.store)
        promote(store, settings, PromoteRequest(evaluation=evaluated(store, "a", 0), gate=QUICK))
        publish(store, settings, PublishRequest())
        evaluated(store, "b", 1)
        public = open_store(settings.publish_store)
        found = {f"store/{key}": store.read(key) for key in store.list("")}
        return found | {f"public/{key}": public.read(key) for key in public.list("models/")}


def seen(store: Store, settings: Settings) -> int:
    """What a reader of the channel gets: the generation, whose release is whole and right."""
    channel, _ = read_channel(store, settings.model)
    if channel is None:
        raise ResultMissing("publish", "")
    with tempfile.TemporaryDirectory() as place:
        fetch_release(store, settings.model, channel.release, Path(place))
    return channel.generation


def traced(act: Callable[[], None], kill_at: int = 0) -> int:
    """Do it, and count the lines; the process dies before that with the given number."""
    lines = 0

    def line(frame: FrameType, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        if lines == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, argument: object) -> object:
        return line if frame.f_code.co_filename.startswith(CODE) else None

    sys.settrace(call)  # type: ignore[arg-type]
    act()
    sys.settrace(None)
    return lines


def forked(act: Callable[[], object]) -> int:
    """Do it in a fork of this process; how that ended, as waitpid tells."""
    child = os.fork()
    if not child:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def fill(settings: Settings, objects: dict[str, bytes]) -> None:
    """Put the prepared objects into the two stores, which are tried: that is done once a process, and never killed."""
    stores = {"store": open_store(settings.store), "public": open_store(settings.publish_store)}
    for store in stores.values():
        require_conditions(store)
    for key, data in objects.items():
        name, _, rest = key.partition("/")
        stores[name].write(rest, data)


def main() -> None:
    """Kill at every moment, look, go on, look again."""
    root, public, moments = sys.argv[1], sys.argv[2], int(sys.argv[3])
    share_session()
    objects = prepared()
    settings = Settings(store=f"{root}/whole", publish_store=f"{public}/whole")
    fill(settings, objects)
    total = traced(lambda: advance(settings))
    for moment in range(moments):
        settings = Settings(store=f"{root}/{moment}", publish_store=f"{public}/{moment}")
        forked(partial(attempt, settings, objects, 1 + moment * (total - 1) // (moments - 1)))
    print(json.dumps({"lines": total}))


def share_session() -> None:
    """One boto3 session for all clients: to read the description of S3 takes a quarter of a second."""
    session = boto3.session.Session()
    session.client("s3")
    boto3.session.Session = lambda: session  # type: ignore[assignment,misc]


def attempt(settings: Settings, objects: dict[str, bytes], kill_at: int) -> None:
    """One moment."""
    fill(settings, objects)
    ended = forked(lambda: traced(lambda: advance(settings), kill_at))
    store, public = open_store(settings.store), open_store(settings.publish_store)
    before = [seen(store, settings), seen(public, settings)]
    advance(settings)
    found = {
        "line": kill_at,
        "killed": os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL,
        "before": before,
        "after": [seen(store, settings), seen(public, settings)],
        "ledger": [entry.generation for entry in history(store, settings.model)],
        "releases": sorted({key.split("/")[3] for key in store.list(f"models/{settings.model}/releases/")}),
        "named": sorted(entry.release for entry in history(store, settings.model)),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
