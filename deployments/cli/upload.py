"""`dyeworks upload`: pictures and captions of a folder or a zip file to the gateway."""

import asyncio
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError

from deployments.cli.services import HOME
from tasks.core.config.installation import Settings, read_settings
from tasks.core.data.file_kinds import READY
from tasks.core.data.remarks import counted, grouped
from tasks.core.errors import SettingError

if TYPE_CHECKING:
    import httpx

    from deployments.upload_client import LocalFile, UploadObserver, UploadReport

LINE_SECONDS = 10.0  # between lines where there is no terminal
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Running(BaseModel):
    """What `dyeworks up` notes of its services."""

    urls: dict[str, str]


@dataclass(frozen=True)
class Destination:
    """A gateway, and the pages of the same `dyeworks up`, if it is one's."""

    url: str
    key: str
    pages: dict[str, str]


def upload(
    path: Annotated[Path, typer.Argument(metavar="FOLDER|ZIP", exists=True, help="Pictures and their captions.")],
    dataset: Annotated[str, typer.Option("--dataset", help="The dataset; the only one where none is named.")] = "",
    url: Annotated[str, typer.Option("--url", help="The gateway; else DYEWORKS_GATEWAY_URL, or `dyeworks up`.")] = "",
    ready: Annotated[bool, typer.Option("--ready/--no-ready", help="Start the ingest at the end.")] = True,
    home: Annotated[Path, typer.Option("--home", help="Folder of `dyeworks up`.")] = HOME,
) -> None:
    """Upload pictures and captions to a gateway.

    What is there already is not sent again: stopped at any time, it goes on when it is run again. The API key is
    DYEWORKS_UPLOAD_KEY, else the one that `dyeworks up` has created.
    """
    from deployments.upload_files import NothingToUpload, local_files

    if dataset:
        _check_name(dataset)
    destination = find_destination(read_settings(), url, home)
    with local_files(path) as (files, remarks):
        print("".join(f"{line}\n" for line in remarks), end="", flush=True)
        if not files:
            raise NothingToUpload(path)
        try:
            name, report = asyncio.run(_send(destination, dataset, files, ready))
        except KeyboardInterrupt:
            print("stopped; run the same command again: what is there is not sent again", file=sys.stderr)
            raise typer.Exit(130) from None
    print("\n".join(summary(name, report, destination, ready)))
    if report.refused:
        raise typer.Exit(1)


def find_destination(settings: Settings, url: str, home: Path) -> Destination:
    """The gateway and the key for it; the key of `dyeworks up` is only sent to its own gateway."""
    pages = _pages(home)
    chosen = (url or settings.gateway_url or pages.get("gateway", "")).strip().rstrip("/")
    if not chosen:
        raise SettingError(
            "DYEWORKS_GATEWAY_URL",
            f"no `dyeworks up` runs with the home {home}, or it is just starting: wait, set it, or use --url",
        )
    address, own = _address(chosen), chosen == pages.get("gateway")
    key, file = settings.upload_key.get_secret_value().strip(), home / "upload-key"
    if not key and own and file.exists():
        key = file.read_text("utf-8", errors="replace").strip()
    if not key:
        raise SettingError("DYEWORKS_UPLOAD_KEY", "set it to a key of `dyeworks keys create --role ingest`")
    if not re.fullmatch("[!-~]+", key):
        problem = "the key has blanks or characters that no key has; copy it again, or create another"
        raise SettingError("DYEWORKS_UPLOAD_KEY", problem)
    if address.scheme == "http" and address.host not in LOOPBACK:
        print("dyeworks: the address is not https: whoever is on the way can read the key", file=sys.stderr)
    return Destination(chosen, key, pages if own else {})


def summary(dataset: str, report: "UploadReport", destination: Destination, ready: bool) -> list[str]:
    """What became of the files, and what follows."""
    lines = [
        f"{counted(report.sent, 'file')} sent to dataset {dataset} ({report.sent_bytes / 1e6:,.1f} MB), "
        f"{report.unchanged:,} there before",
        *grouped(report.refused, "file", "not taken"),
    ]
    if not ready:
        return [*lines, f"the ingest starts when no files have come for a while, or once a file {READY} does"]
    if report.refused:
        again = "the ingest was not started: correct these files, or move them away, and run the command again"
        return [*lines, f"{again}; else what was sent is ingested when no files have come for a while"]
    pages = destination.pages
    where = f" at {pages['server']}/runs" if "server" in pages else " on the Prefect server"
    lines.append(f"the ingest starts now: watch ingest-upload{where}; then each model decides whether to train")
    return [*lines, f"pictures of the served models: {pages['storefront']}"] if "storefront" in pages else lines


async def _send(
    destination: Destination, dataset: str, files: Sequence["LocalFile"], ready: bool
) -> tuple[str, "UploadReport"]:
    from deployments.upload_client import UploadClient

    with _progress(files) as observer:
        async with UploadClient(destination.url, destination.key, observer) as client:
            name = await client.dataset(dataset)
            report = await client.send(name, files)
            if ready and not report.refused:
                await client.end(name)
            return name, report


@contextmanager
def _progress(files: Sequence["LocalFile"]) -> Iterator["UploadObserver"]:
    """A progress bar on a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from deployments.upload_client import UploadObserver

    size, console = sum(file.size for file in files), Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{len(files):,} files", total=size)

        class Shown(UploadObserver):
            """Counts, and shows."""

            count, bytes, due = 0, 0, time.monotonic() + LINE_SECONDS

            def moved(self, size: int) -> None:
                self.bytes += size
                bar.advance(task, size)
                if not console.is_terminal and time.monotonic() > self.due:
                    self._line()

            def done(self) -> None:
                self.count += 1
                bar.update(task, description=f"{self.count:,} of {len(files):,} files")

            def failed(self, problem: str) -> None:
                console.print(f"trying again: {problem}", markup=False, highlight=False)

            def _line(self) -> None:
                self.due = time.monotonic() + LINE_SECONDS
                text = f"{self.count:,} of {len(files):,} files, {self.bytes / 1e6:,.1f} of {size / 1e6:,.1f} MB"
                console.print(text, markup=False, highlight=False)

        yield Shown()


def _check_name(dataset: str) -> None:
    """Raise SettingError for what is no name of a dataset: it would be another address."""
    from tasks.core.config.model import Name

    try:
        TypeAdapter(Name).validate_python(dataset)
    except ValidationError:
        problem = f"{dataset!r} is no dataset's name: 40 lower-case letters, digits and hyphens at most"
        raise SettingError("--dataset", problem) from None


def _address(text: str) -> "httpx.URL":
    """The address of a gateway; raises SettingError, which shows no password."""
    import httpx

    try:
        address = httpx.URL(text)
        address.host.encode("idna")  # as a connection does
    except (httpx.InvalidURL, UnicodeError):
        address = httpx.URL()
    if address.userinfo:
        problem = "an address with a user or password is not taken; the key alone is sent"
    elif (
        address.scheme not in {"http", "https"}
        or not re.fullmatch(r"[\w.:-]+", address.host)
        or address.port not in {None, *range(1, 2**16)}
        or address.query
        or address.fragment
    ):
        problem = f"{'it' if '@' in text else repr(text)} is no http address"
    else:
        return address
    raise SettingError("DYEWORKS_GATEWAY_URL", f"{problem}: set it, or use --url")


def _pages(home: Path) -> dict[str, str]:
    """The addresses of the `dyeworks up` that runs with this home; none where none does."""
    try:
        return Running.model_validate_json((home / "pids.json").read_bytes()).urls
    except (FileNotFoundError, ValidationError):  # ValidationError: it is just being written
        return {}
