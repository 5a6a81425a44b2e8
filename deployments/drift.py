"""What an operator can do about the drift monitor: `python -m deployments.drift --help`.

Needs the settings of the installation, and no Prefect server.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tasks.core.config.installation import Settings, get_settings
from tasks.core.config.presets import load_preset
from tasks.core.errors import DyeworksError, HistoryUnusable, ProfileMissing
from tasks.core.models.clip import Clip
from tasks.core.monitoring.embeddings import EmbeddingCache
from tasks.core.monitoring.reference import (
    ReferenceRecord,
    load_profile,
    pin_profile,
    read_pin,
    reference_records,
    refit,
)
from tasks.core.registry.ledger import history
from tasks.core.store import Store, open_store
from tasks.core.traffic.history import import_history, read_history


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and say what it did."""
    options = _parser().parse_args(arguments)
    try:
        settings = get_settings()
        said: str = options.act(open_store(settings.store), settings, options)
    except (DyeworksError, OSError) as error:
        print(f"dyeworks: {error}", file=sys.stderr)
        return 1
    print(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments.drift", description="Operates the drift monitor.")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("profiles", help="list the frozen references").set_defaults(act=_profiles)
    show = commands.add_parser("show", help="inspect the reference of a generation")
    show.add_argument("generation", type=int)
    show.set_defaults(act=_show)
    pin = commands.add_parser("pin", help="compare with this generation's reference until it is unpinned")
    pin.add_argument("generation", type=int)
    unpin = commands.add_parser("unpin", help="compare with the champion's reference again")
    for command, act in ((pin, _pin), (unpin, _unpin)):
        command.add_argument("--reason", default="by hand")
        command.add_argument("--actor", default="operator")
        command.set_defaults(act=act)
    again = commands.add_parser("refit", help="after a change of DYEWORKS_CLIP: embed the reference in force again")
    again.set_defaults(act=_refit)
    past = commands.add_parser("import", help="add a history of prompts (JSONL: prompt, time, session) to the log")
    past.add_argument("file", type=Path)
    past.set_defaults(act=_import)
    return parser


def _line(record: ReferenceRecord) -> str:
    span = f"{record.begin:%Y-%m-%d %H:%M} to {record.end:%Y-%m-%d %H:%M}"
    return f"generation {record.generation}: {record.rows} requests from {span}, phi {record.phi:.2f}, {record.encoder}"


def _profiles(store: Store, settings: Settings, _: argparse.Namespace) -> str:
    lines = [_line(record) for record in reference_records(store, settings.model)]
    if pin := read_pin(store, settings.model):
        lines.append(f"pinned: generation {pin.generation}, by {pin.actor} at {pin.time:%Y-%m-%d %H:%M}: {pin.reason}")
    return "\n".join(lines) or "no reference is frozen yet: a promoted model needs traffic first"


def _show(store: Store, settings: Settings, options: argparse.Namespace) -> str:
    records = [r for r in reference_records(store, settings.model) if r.generation == options.generation]
    if not records:
        raise ProfileMissing(options.generation, settings.model)
    profile = load_profile(store, records[-1])
    sizes = profile.shares()
    order = sorted(range(len(sizes)), key=lambda k: -sizes[k])
    clusters = [f"  {sizes[k]:6.1%}  {profile.medoid(k)}" for k in order if sizes[k]]
    return "\n".join(
        [_line(records[-1]), f"arrays {records[-1].arrays}", "its clusters, and a prompt of each:", *clusters]
    )


def _pin(store: Store, settings: Settings, options: argparse.Namespace) -> str:
    pin_profile(store, settings.model, options.generation, options.actor, options.reason)
    return f"the monitor now compares with the reference of generation {options.generation}"


def _unpin(store: Store, settings: Settings, options: argparse.Namespace) -> str:
    pin_profile(store, settings.model, 0, options.actor, options.reason)
    return "the monitor now compares with the champion's reference"


def _refit(store: Store, settings: Settings, _: argparse.Namespace) -> str:
    clip = Clip(settings)
    cache = EmbeddingCache(store, clip.hash, settings.cache)
    spec, entries = load_preset().monitor, history(store, settings.model)
    return "frozen: " + _line(refit(store, settings, spec, cache, clip.encode_texts, entries))


def _import(store: Store, settings: Settings, options: argparse.Namespace) -> str:
    name = str(options.file)
    try:
        with options.file.open(encoding="utf-8-sig") as lines:
            past = read_history(name, lines)
    except UnicodeDecodeError as error:
        raise HistoryUnusable(name, f"it is not UTF-8: {error}", 1) from error
    count = import_history(store, settings.model, settings.session_key.get_secret_value(), past)
    times = [request.time for request in past]
    return f"{count} requests from {min(times):%Y-%m-%d %H:%M} to {max(times):%Y-%m-%d %H:%M} are in the prompt log"


if __name__ == "__main__":
    sys.exit(main())
