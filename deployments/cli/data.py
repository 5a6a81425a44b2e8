"""`dyeworks data`: versions of datasets, listed, compared, pinned and exported."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.options import Actor, AsJson, Model, Reason
from tasks.core.errors import SettingError
from tasks.core.installation import Installation, open_installation

if TYPE_CHECKING:
    from tasks.core.data.dataset import Item, Manifest
    from tasks.core.data.versions import VersionLine

app = typer.Typer(no_args_is_help=True, help="Dataset versions: list, show, diff, pin, unpin, export.")
Dataset = Annotated[str, typer.Option("--dataset", metavar="NAME", help="The dataset; the only one where none is.")]
NAMED = "The version: its name, the beginning of it, `newest` or `pinned`."
Version = Annotated[str, typer.Argument(metavar="VERSION", help=NAMED)]


@app.command("list")
def list_versions(dataset: Dataset = "", as_json: AsJson = False) -> None:
    """List the versions of a dataset, oldest first.

    Also which one is the newest, pinned, and what champions were trained on; and why the last ingest failed.
    """
    from tasks.core.data.failures import last_failure
    from tasks.core.data.versions import version_lines

    installation = open_installation()
    dataset = dataset or installation.only_dataset()
    lines = version_lines(installation.store, dataset, installation.subscribers(dataset))
    failed = last_failure(installation.store, dataset)
    if as_json:
        found = [_facts(line) for line in lines]
        failure = failed.model_dump(mode="json", exclude={"schema_version", "listing"}) if failed else None
        print(json.dumps({"dataset": dataset, "versions": found, "failed": failure}, indent=2))
        return
    print("\n".join(_line(line) for line in lines) or f"dataset {dataset} has no version yet")
    if failed:
        print(f"the last ingest made no version, {failed.time:%Y-%m-%d %H:%M}: {failed.problem}")


@app.command("show")
def show(version: Version = "newest", dataset: Dataset = "", model: Model = "", as_json: AsJson = False) -> None:
    """Show the pictures of a version, with captions.

    Also how each is changed when it is read, and the remarks of the last ingest, which only the newest version has.
    """
    from tasks.core.data.dataset import newest_version, remarks
    from tasks.core.data.remarks import shown

    installation = open_installation()
    manifest = _version(installation, dataset, version, model)
    newest = manifest.version == newest_version(installation.store, manifest.dataset)
    lines = remarks(installation.store, manifest) if newest else []
    if as_json:
        print(json.dumps(manifest.model_dump(mode="json") | {"remarks": lines}, indent=2, ensure_ascii=False))
        return
    parent = f", after {manifest.parent}" if manifest.parent else ""
    print(f"dataset {manifest.dataset} version {manifest.version}, {manifest.created:%Y-%m-%d %H:%M}{parent}")
    print(f"{len(manifest.items):,} pictures, {manifest.new:,} new, {manifest.forgotten:,} forgotten")
    for item in sorted(manifest.items, key=lambda item: item.name):
        note = f"  [{item.note}]" if item.note else ""
        print(f"{item.sha256[:12]}  {shown(item.name)}  {item.caption}{note}")
    print("\n".join(lines), end="\n" if lines else "")


@app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=NAMED)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The version that it is compared with.")] = "newest",
    dataset: Dataset = "",
    model: Model = "",
    as_json: AsJson = False,
) -> None:
    """Show what has changed between two versions."""
    from tasks.core.data.remarks import shown
    from tasks.core.data.versions import compare_versions

    installation = open_installation()
    before, after = (_version(installation, dataset, name, model) for name in (old, new))
    change = compare_versions(before, after)
    if as_json:
        found = {
            "old": before.version,
            "new": after.version,
            "added": [_picture(item) for item in change.added],
            "removed": [_picture(item) for item in change.removed],
            "captions": [_picture(b) | {"before": a.caption} for a, b in change.recaptioned],
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(
        f"dataset {after.dataset}, {before.version} to {after.version}: {len(change.added):,} added, "
        f"{len(change.removed):,} removed, {len(change.recaptioned):,} captions changed"
    )
    for sign, items in (("+", change.added), ("-", change.removed)):
        for item in items:
            print(f"{sign} {item.sha256[:12]}  {shown(item.name)}  {item.caption}")
    for was, item in change.recaptioned:
        print(f"~ {item.sha256[:12]}  {shown(item.name)}  {was.caption} -> {item.caption}")


@app.command("pin")
def pin(
    version: Version,
    dataset: Dataset = "",
    model: Model = "",
    actor: Actor = "operator",
    reason: Reason = "pinned by hand",
) -> None:
    """Let trainings of a model stay at a version.

    New uploads still become versions, and start no retrain of the model until `dyeworks data unpin`.
    """
    from tasks.core.data.pins import pin_dataset

    installation = open_installation()
    config = installation.model(model)
    chosen = _version(installation, dataset, version, config.name)
    made = pin_dataset(installation.store, config, chosen.dataset, chosen.version, actor, reason)
    print(f"model {config.name}: dataset {made.dataset} is pinned to version {made.version}")


@app.command("unpin")
def unpin(
    dataset: Dataset = "", model: Model = "", actor: Actor = "operator", reason: Reason = "unpinned by hand"
) -> None:
    """Let trainings of a model take the newest version again.

    Whether it starts a retrain is decided with the next drift check.
    """
    from tasks.core.data.pins import unpin_dataset

    installation = open_installation()
    config = installation.model(model)
    made = unpin_dataset(installation.store, config.name, dataset or config.dataset, actor, reason)
    print(f"model {config.name}: dataset {made.dataset} is no longer pinned")


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is empty, or not there yet.")],
    dataset: Dataset = "",
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help=NAMED)] = "newest",
    model: Model = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the pictures, as the Hub names it.")] = "",
) -> None:
    """Export a version as an imagefolder with Croissant metadata.

    Hugging Face's `datasets` reads it. The licence is the model's where none is given. The whole folder is written, or
    nothing.
    """
    from tasks.core.data.export import export_version

    installation = open_installation()
    chosen = _version(installation, dataset, version, model)
    counts = export_version(installation.store, chosen, licence or _licence(installation, chosen, model), folder)
    parts = ", ".join(f"{count:,} in {part}" for part, count in counts.items())
    print(f"dataset {chosen.dataset} version {chosen.version} exported to {folder}: {parts}")


def _version(installation: Installation, dataset: str, name: str, model: str) -> "Manifest":
    """A version by its name; without a dataset that of the model, or the only one."""
    from tasks.core.data.versions import PINNED, find_version

    if name == PINNED or model:
        config = installation.model(model)
        return find_version(installation.store, dataset or config.dataset, name, config.name)
    return find_version(installation.store, dataset or installation.only_dataset(), name, "")


def _licence(installation: Installation, manifest: "Manifest", model: str) -> str:
    configs = [installation.model(model)] if model else installation.subscribers(manifest.dataset)
    found = sorted({config.licence for config in configs})
    if len(found) > 1:
        raise SettingError("--licence", f"the models of dataset {manifest.dataset} have {', '.join(found)}; name one")
    return found[0]


def _line(line: "VersionLine") -> str:
    made = line.manifest
    marks = ["newest"] if line.newest else []
    marks += [f"pinned for {name}" for name in line.pinned] + [f"champion of {name}" for name in line.champions]
    facts = f"{made.version}  {made.created:%Y-%m-%d %H:%M}  {len(made.items):,} pictures  {made.new:,} new"
    return "  ".join([facts, *([", ".join(marks)] if marks else [])])


def _facts(line: "VersionLine") -> dict[str, object]:
    made = line.manifest
    return {
        "version": made.version,
        "created": made.created.isoformat(),
        "parent": made.parent,
        "pictures": len(made.items),
        "new": made.new,
        "newest": line.newest,
        "pinned": line.pinned,
        "champions": line.champions,
    }


def _picture(item: "Item") -> dict[str, str]:
    return {"sha256": item.sha256, "name": item.name, "caption": item.caption}
