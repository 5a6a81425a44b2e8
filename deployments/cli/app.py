"""The command `dyeworks`: its groups, and the mapping of errors to one line and an exit code."""

import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer
from pydantic import ValidationError

from deployments.cli import data, drift, keys, models, outbox, replay, services, train, upload
from deployments.stack import ServiceFailed
from tasks.core.config.base import explain
from tasks.core.config.installation import Settings
from tasks.core.errors import DyeworksError, Terminated

ABOUT = "Continuous fine-tuning of image models: training, drift, retraining, proof and publication."
EXITS = (
    "Exit codes: 0 done; 1 failed, with one line on standard error; 2 wrong usage; 130 stopped by ctrl-C; 143 stopped "
    "by SIGTERM (`dyeworks up` ends with 0 after either). Settings are read from environment "
    "variables that begin with DYEWORKS_."
)
app = typer.Typer(
    name="dyeworks",
    epilog=EXITS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train.train)
app.command("demo")(services.demo)
app.command("up")(services.up)
app.command("down")(services.down)
app.command("serve")(services.serve)
app.command("upload")(upload.upload)
app.command("bootstrap")(services.bootstrap)
app.command("replay")(replay.replay)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(drift.app, name="drift")
app.add_typer(keys.app, name="keys")
app.add_typer(outbox.app, name="outbox")


def _version(asked: bool) -> None:
    if asked:
        print(metadata.version("dyeworks"))
        raise typer.Exit


@app.callback(help=ABOUT)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    try:
        app(arguments, prog_name="dyeworks")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except ValidationError as error:
        return _fail(f"settings: {explain(error, Settings)}")
    except Terminated as error:
        return _fail(str(error), 128 + signal.SIGTERM)
    except ServiceFailed as error:  # several lines: it contains the end of the service's log
        print(f"dyeworks: {str(error).rstrip()}", file=sys.stderr)
        return 1
    except (DyeworksError, OSError) as error:
        return _fail(str(error))
    return 0


def main() -> None:
    """The console script."""
    sys.exit(run())


def _fail(problem: str, code: int = 1) -> int:
    print(f"dyeworks: {' '.join(problem.split())}", file=sys.stderr)
    return code
