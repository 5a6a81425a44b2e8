"""What Prefect's own client would send, in many environments: a program, since Prefect reads some of them once.

Reads a list of folders from standard input. Each holds `environment.json`, and is the working folder and the home.
Writes a list of what the client would use there: URL, headers and number of certificates (-1: none is checked), or an
error.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx


def used(client: httpx.Client) -> dict[str, Any]:
    """URL, headers and certificates of a client."""
    pool: Any = getattr(client._transport, "_pool")  # noqa: B009  no public way
    context = pool._ssl_context
    headers = {name: value for name, value in client.headers.items() if name != "user-agent"}
    certificates = len(context.get_ca_certs()) if context.verify_mode else -1
    return {"url": str(client.base_url), "headers": headers, "certificates": certificates}


def of_prefect(folder: Path) -> dict[str, Any]:
    """What Prefect's client would use."""
    from prefect import context  # noqa: PLC0415  late: it takes a second
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.settings import get_current_settings, sources  # noqa: PLC0415

    for name in [name for name in os.environ if name.upper().startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= {"HOME": str(folder)} | json.loads((folder / "environment.json").read_text())
    os.chdir(folder)
    setattr(sources, "DEFAULT_PREFECT_HOME", folder / ".prefect")  # noqa: B010
    try:
        setattr(context, "GLOBAL_SETTINGS_CONTEXT", None)  # noqa: B010  as when Prefect is imported
        context.refresh_global_settings_context()
        if not get_current_settings().api.url:
            return {"error": "no URL"}  # the client would start a server
        return used(get_client(sync_client=True)._client)
    except Exception as error:  # the program ends at the first one otherwise
        return {"error": type(error).__name__}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folders = [Path(folder) for folder in json.load(sys.stdin)]
    answers = [of_prefect(folder) for folder in folders]
    print(json.dumps(answers))
