"""A process like the gateway's whose one endpoint reads the body and stores nothing.

`python -m tests.bare_endpoint PORT`
"""

import sys

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import Request

from deployments.serve import configure
from tasks.core.config.installation import Settings


async def take(request: Request) -> JSONResponse:
    """Read a notification."""
    return JSONResponse({"records": len(await request.body())}, 202)


def main(port: int) -> None:
    """Serve as the gateway is served."""
    app = FastAPI()
    app.post("/hooks/s3")(take)
    config = configure("gateway", "127.0.0.1", port, Settings())
    config.app, config.factory = app, False
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
