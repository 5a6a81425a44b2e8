"""`python -m tests.crashes STORE PUBLIC MOMENTS`: promote and publish, killed at many moments and resumed.

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

from tasks.core.config.installation import ROOT
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest, PublishRequest
from tasks.core.errors import ResultMissing
from tasks.core.installation import Installation
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import fetch_release
from tasks.core.store import Store, conditional_writes, open_store
from tests.adire import NAME, adire, installed
from tests.candidates import QUICK, evaluated

CODE = str(ROOT / "tasks/core")


def opened(store: str, public: str) -> tuple[Installation, ModelConfig]:
    """An installation with a model that is published to another store."""
    return installed(open_store(store)), adire(publishing={"store": public})


def advance(installation: Installation, model: ModelConfig) -> None:
    """Promote the second challenger, and publish it."""
    request = PromoteRequest(evaluation="evaluation-b-1", gate=QUICK)
    installation = installed(open_store(installation.settings.store))
    publish(installation, model, PublishRequest(generation=promote(installation, model, request).generation))


def prepared() -> dict[str, bytes]:
    """A store in which one generation is published and a challenger waits; every object of it."""
    with tempfile.TemporaryDirectory() as place:
        installation, model = opened(f"{place}/store", f"{place}/public")
        store = installation.store
        promote(installation, model, PromoteRequest(evaluation=evaluated(store, "a", 0), gate=QUICK))
        publish(installation, model, PublishRequest())
        evaluated(store, "b", 1)
        public = open_store(model.publishing.store)
        found = {f"store/{key}": store.read(key) for key in store.list("")}
        return found | {f"public/{key}": public.read(key) for key in public.list("models/")}


def seen(store: Store) -> int:
    """What a reader of the channel gets: the generation, with its release verified."""
    channel, _ = read_channel(store, NAME)
    if channel is None:
        raise ResultMissing("publish", "")
    with tempfile.TemporaryDirectory() as place:
        fetch_release(store, NAME, channel.release, Path(place))
    return channel.generation


def traced(act: Callable[[], object], kill_at: int = 0) -> int:
    """Run it, and count the lines; the process is killed before the line with the given number."""
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


def counted(act: Callable[[], object]) -> int:
    """The lines of a run in a fork, which opens its stores anew as one that is killed does."""
    with tempfile.NamedTemporaryFile("w+") as file:
        forked(lambda: print(traced(act), file=file, flush=True))
        return int(Path(file.name).read_text())


def forked(act: Callable[[], object]) -> int:
    """Run it in a fork of this process; returns the status of waitpid."""
    child = os.fork()
    if not child:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def fill(installation: Installation, model: ModelConfig, objects: dict[str, bytes]) -> None:
    """Put the prepared objects into the two stores, of a server that `main` has tried."""
    stores = {"store": installation.store, "public": open_store(model.publishing.store)}
    conditional_writes._tried.update(store.url for store in stores.values())
    for key, data in objects.items():
        name, _, rest = key.partition("/")
        stores[name].write(rest, data)


def main() -> None:
    """Kill at every moment, check, resume, check again."""
    root, public, moments = sys.argv[1], sys.argv[2], int(sys.argv[3])
    share_session()
    objects = prepared()
    whole = opened(f"{root}/whole", f"{public}/whole")
    conditional_writes.require_conditions(whole[0].store)  # once, and never killed: it takes seconds on SeaweedFS
    fill(*whole, objects)
    total = counted(lambda: advance(*whole))
    for moment in range(moments):
        installation, model = opened(f"{root}/{moment}", f"{public}/{moment}")
        forked(partial(attempt, installation, model, objects, 1 + moment * (total - 1) // (moments - 1)))
    print(json.dumps({"lines": total}))


def share_session() -> None:
    """One boto3 session for all clients: loading the description of S3 takes a quarter of a second."""
    session = boto3.session.Session()
    session.client("s3")
    boto3.session.Session = lambda: session  # type: ignore[assignment,misc]


def attempt(installation: Installation, model: ModelConfig, objects: dict[str, bytes], kill_at: int) -> None:
    """One moment."""
    fill(installation, model, objects)
    ended = forked(lambda: traced(lambda: advance(installation, model), kill_at))
    store, public = installation.store, open_store(model.publishing.store)
    before = [seen(store), seen(public)]
    advance(installation, model)
    found = {
        "line": kill_at,
        "killed": os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL,
        "before": before,
        "after": [seen(store), seen(public)],
        "ledger": [entry.generation for entry in history(store, NAME)],
        "releases": sorted({key.split("/")[3] for key in store.list(f"models/{NAME}/releases/")}),
        "named": sorted(entry.release for entry in history(store, NAME)),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
