"""`dyeworks drift`: operator commands for the drift monitor. Needs no Prefect server."""

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.options import Actor, Model, Reason
from tasks.core.errors import HistoryUnusable, ProfileMissing
from tasks.core.installation import open_installation
from tasks.core.monitoring.reference import (
    ReferenceRecord,
    load_profile,
    pin_profile,
    read_pin,
    reference_records,
    refit,
)
from tasks.core.registry.ledger import history
from tasks.core.traffic.history import import_history, read_history

app = typer.Typer(no_args_is_help=True, help="References of the drift monitor; import of prompts.")
Generation = Annotated[int, typer.Argument(metavar="GENERATION", min=1, help="Generation of the reference.")]


@app.command("references")
def references(model: Model = "") -> None:
    """List the frozen references."""
    installation = open_installation()
    name = installation.model(model).name
    lines = [_line(record) for record in reference_records(installation.store, name)]
    if pin := read_pin(installation.store, name):
        lines.append(f"pinned: generation {pin.generation}, by {pin.actor} at {pin.time:%Y-%m-%d %H:%M}: {pin.reason}")
    print("\n".join(lines) or "no reference is frozen yet: a promoted model needs traffic first")


@app.command("show")
def show(generation: Generation, model: Model = "") -> None:
    """Show the clusters of a reference, and a prompt of each."""
    installation = open_installation()
    name = installation.model(model).name
    records = [r for r in reference_records(installation.store, name) if r.generation == generation]
    if not records:
        raise ProfileMissing(generation, name)
    profile = load_profile(installation.store, records[-1])
    sizes = profile.shares()
    order = sorted(range(len(sizes)), key=lambda k: -sizes[k])
    clusters = [f"  {sizes[k]:6.1%}  {profile.medoid(k)}" for k in order if sizes[k]]
    lines = [_line(records[-1]), f"arrays {records[-1].arrays}", "its clusters, and a prompt of each:", *clusters]
    print("\n".join(lines))


@app.command("pin")
def pin(generation: Generation, model: Model = "", actor: Actor = "operator", reason: Reason = "by hand") -> None:
    """Compare with this reference until it is unpinned."""
    installation = open_installation()
    pin_profile(installation.store, installation.model(model).name, generation, actor, reason)
    print(f"the monitor now compares with the reference of generation {generation}")


@app.command("unpin")
def unpin(model: Model = "", actor: Actor = "operator", reason: Reason = "by hand") -> None:
    """Compare with the champion's reference again."""
    installation = open_installation()
    pin_profile(installation.store, installation.model(model).name, 0, actor, reason)
    print("the monitor now compares with the champion's reference")


@app.command("refit")
def refit_reference(model: Model = "") -> None:
    """Embed the reference again, after a change of the scorer."""
    from tasks.core.models.clip import Clip
    from tasks.core.monitoring.embeddings import EmbeddingCache

    installation = open_installation()
    config, store = installation.model(model), installation.store
    clip = Clip(config, installation.settings.device)
    cache = EmbeddingCache(store, config.name, clip.hash, installation.settings.cache)
    entries = history(store, config.name)
    print("frozen:", _line(refit(store, config.name, config.preset.monitor, cache, clip.encode_texts, entries)))


@app.command("import")
def import_prompts(file: Annotated[Path, typer.Argument(metavar="FILE", help="The lines.")], model: Model = "") -> None:
    """Import a history of prompts into the prompt log.

    FILE contains JSON lines with prompt, time and, if possible, session.
    """
    name = str(file)
    try:
        with file.open(encoding="utf-8-sig") as lines:
            past = read_history(name, lines)
    except UnicodeDecodeError as error:
        raise HistoryUnusable(name, f"it is not UTF-8: {error}", 1) from error
    installation = open_installation()
    key = installation.settings.session_key.get_secret_value()
    count = import_history(installation.store, installation.model(model).name, key, past)
    times = [request.time for request in past]
    print(f"{count} requests from {min(times):%Y-%m-%d %H:%M} to {max(times):%Y-%m-%d %H:%M} are in the prompt log")


def _line(record: ReferenceRecord) -> str:
    span = f"{record.begin:%Y-%m-%d %H:%M} to {record.end:%Y-%m-%d %H:%M}"
    return f"generation {record.generation}: {record.rows} requests from {span}, phi {record.phi:.2f}, {record.encoder}"
