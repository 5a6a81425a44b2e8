"""`dyeworks train`: train a LoRA on a folder of pictures, without a server, with the code of the deployment."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Preset, by its name or YAML file, or a model's file.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of pictures, optionally with captions.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for all output.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan and the expected duration.")] = False,
    base: Annotated[str, typer.Option("--base", help="Base model of a preset: a folder or a Hub id.")] = "",
    trigger: Annotated[str, typer.Option("--trigger", help="Trigger word of a preset.")] = "",
) -> None:
    """Train a LoRA on a folder of pictures, without a server.

    All output is written under --out, the adapter to --out/adapter. An interrupted training resumes from its last
    checkpoint when started again; SIGTERM writes one first and exits with 143. Another SPEC or other pictures are
    another training, which needs its own folder.
    """
    from tasks.core.training.local import train_folder
    from tasks.core.training.termination import raising

    try:
        with raising():
            train_folder(spec, data, out, dry_run=dry_run, base=base, trigger=trigger)
    except KeyboardInterrupt as error:
        print("dyeworks: stopped; started again it resumes from its last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from error
