"""`dyeworks demo|up|down|serve|bootstrap`: services on one machine, and the setup of deployments."""

import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.options import Models
from tasks.core.config.installation import ROOT
from tasks.core.errors import SettingError

if TYPE_CHECKING:
    from deployments.stack import Stack

HOME = Path("build/up")
EXAMPLES = ROOT / "infra" / "models"
Home = Annotated[Path, typer.Option("--home", help="Folder for all files of the services.")]
Applied = Annotated[Path | None, typer.Option("--models", help="Model's YAML file, or folder of them, to apply first.")]


class Service(StrEnum):
    """The public services."""

    STOREFRONT = "storefront"
    GATEWAY = "gateway"


def demo(
    data: Annotated[Path | None, typer.Option("--data", help="Folder of pictures instead of the demo's own.")] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Folder for all output.")] = Path("build/demo"),
    model: Annotated[Path, typer.Option("--model", help="YAML file of the model.", show_default="example")] = EXAMPLES
    / "adire.yaml",
    scale: Annotated[Path | None, typer.Option("--scale", help="JSON file with another scale, for tests.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an interrupted demo.")] = False,
) -> None:
    """Run the whole pipeline once on this machine.

    An interrupted demo resumes when started again.
    """
    from deployments.demo.play import play_demo

    if data and not data.is_dir():
        raise SettingError("--data", f"{data} is not a folder")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise typer.Exit(play_demo(folder, model, data, scale, restart=restart))


def up(home: Home = HOME, models: Applied = None, model: Models = None) -> None:
    """Run all services on free ports until ctrl-C.

    Without --models, a store without a model gets the example. If the models have several bases, --model names those
    that the storefront serves.
    """
    from deployments.stack import Stack, stop_leftovers
    from tasks.core.registry.models import model_names
    from tasks.core.store import open_store

    if home.exists():
        stop_leftovers(home)
    stack = Stack(home, models=models, served=tuple(model or ()))
    if models is None and not model_names(open_store(stack.environment["DYEWORKS_STORE"])):
        stack.models = EXAMPLES
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(f"storefront  {stack.url('storefront')}  (in some seconds; the others take longer)", flush=True)
        stack.start_all()
        mlflow = stack.start_mlflow()
        if "mlflow" in stack.processes:
            stack.wait("mlflow", "/health")
        print("\n".join(_addresses(stack, mlflow, home)), flush=True)
        print(f"{stack.wait_end()} has exited, so the others are stopped; logs in {stack.home}/logs")
    except KeyboardInterrupt:
        pass
    finally:
        stack.stop()


def _addresses(stack: "Stack", mlflow: str, home: Path) -> list[str]:
    elsewhere = "" if home == HOME else f" --home {shlex.quote(str(home))}"
    store = shlex.quote(stack.environment["DYEWORKS_STORE"])
    return [
        f"Prefect     {stack.url('server')}",
        f"MLflow      {mlflow}",
        f"gateway     {stack.url('gateway')}  (/hooks/s3; its token is in {stack.home}/webhook-token)",
        f"pictures    dyeworks upload FOLDER{elsewhere}",
        f"commands    export PREFECT_API_URL={stack.url('server')}/api DYEWORKS_STORE={store}",
        "ctrl-C stops all",
    ]


def down(home: Home = HOME) -> None:
    """Stop processes left by an earlier `dyeworks up`."""
    from deployments.stack import stop_leftovers

    stopped = stop_leftovers(home) if home.exists() else []
    print(f"stopped {len(stopped)} processes")


def serve(
    service: Annotated[Service, typer.Argument(help="Which of the two.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen at.")] = 8000,
    model: Models = None,
) -> None:
    """Run the storefront or the gateway as a public process.

    Refuses to listen beyond loopback with a default or short secret. --model applies to the storefront.
    """
    from deployments.serve import serve_until_signal

    if model and service is Service.GATEWAY:
        raise typer.BadParameter("the gateway is for all models", param_hint="--model")
    raise typer.Exit(serve_until_signal(service.value, host, port, model or ()))


def bootstrap(models: Applied = None) -> None:
    """Create what the deployments need on the Prefect server.

    Creates work pools, limits, automations and variables; run it before `prefect deploy --all`. It is idempotent. A
    server that another installation has bootstrapped is refused.
    """
    from deployments.bootstrap import bootstrap as create
    from deployments.cli.models import applied, read_models
    from tasks.core.installation import open_installation

    installation = open_installation()
    for model in read_models([models]) if models else ():
        print(applied(installation.store, model))
    print("\n".join(create(installation)) or "nothing to change")
