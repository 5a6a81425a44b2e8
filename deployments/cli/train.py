"""`dyeworks train`: a LoRA of a folder of pictures, with no server, by the code of the deployment."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Preset, by its name or YAML file, or a model's file.")],
    data: Annotated[
        Path, typer.Option("--data", help="Folder of pictures, with captions beside them if there are any.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for all that this writes.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be trained, and how long.")] = False,
    base: Annotated[str, typer.Option("--base", help="Base model of a preset: a folder or a Hub id.")] = "",
    trigger: Annotated[str, typer.Option("--trigger", help="Trigger word of a preset.")] = "",
) -> None:
    """Train a LoRA of a folder of pictures, with no server.

    Everything is written under --out, the finished adapter to --out/adapter. Killed and started again it resumes from
    its last checkpoint; SIGTERM writes one first and exits with 143. With another SPEC or other pictures it is another
    training, and needs a folder of its own.
    """
    from tasks.core.training.local import train_folder
    from tasks.core.training.termination import raising

    try:
        with raising():
            train_folder(spec, data, out, dry_run=dry_run, base=base, trigger=trigger)
    except KeyboardInterrupt as error:
        print("dyeworks: stopped; started again it resumes from its last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from error
