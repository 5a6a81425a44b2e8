"""Runs of `ingest-upload` on the Prefect server, by its REST API: each key has one, however often it is asked for."""

from collections.abc import Callable
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError

from tasks.core.errors import DyeworksError
from tasks.core.prefect_server import ServerConnection

SECONDS = 10.0  # for one request, with all tries
DEPLOYMENT = "ingest-upload/ingest-upload"
MOST_TEXT = 500  # characters of an answer
EVERYONE = {401, 403, 404, 405, 408, 429}  # statuses that concern the server or the client, not the run


class PrefectUnavailable(DyeworksError):
    """The Prefect server starts no run now."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the Prefect server starts no run: {problem}")


class RunRefused(DyeworksError):
    """The Prefect server rejects a run."""

    def __init__(self, dataset: str, problem: str) -> None:
        super().__init__(f"the Prefect server rejects an ingest of {dataset}: {problem}")
        self.dataset = dataset


class Found(BaseModel):
    """What is read of a deployment and of a run."""

    id: UUID


class IngestRuns:
    """Starts runs on a server; raises PrefectUnavailable where the deployment is not registered yet."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        answer = self._answer(lambda: connection.get(f"/deployments/name/{DEPLOYMENT}", SECONDS))
        self.deployment = self._id(answer)

    def start(self, dataset: str, key: str) -> tuple[str, bool]:
        """The id of the run that ingests a dataset with this idempotency key, and whether it is new.

        Raises:
            PrefectUnavailable: it has to be tried again.
            RunRefused: the server rejects this run.
        """
        path = f"/deployments/{self.deployment}/create_flow_run"
        body = {"parameters": {"spec": {"dataset": dataset}}, "idempotency_key": key}
        answer = self._answer(lambda: self.connection.post(path, body, SECONDS))
        if answer.is_client_error:
            raise RunRefused(dataset, f"{answer.status_code}: {answer.text[:MOST_TEXT]}")
        return self._id(answer), answer.status_code == httpx.codes.CREATED

    def _answer(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            answer = send()
        except httpx.HTTPError as error:
            raise PrefectUnavailable(str(error) or type(error).__name__) from error
        if answer.status_code in EVERYONE or answer.is_server_error:
            advice = self.connection.advice(answer.status_code)
            raise PrefectUnavailable(f"the answer was {answer.status_code}: {answer.text[:MOST_TEXT]}{advice}")
        return answer

    def _id(self, answer: httpx.Response) -> str:
        try:
            return str(Found.model_validate_json(answer.content).id)
        except ValidationError as error:  # PREFECT_API_URL may lead to another server, or be redirected
            url = answer.url.copy_with(userinfo=b"")
            raise PrefectUnavailable(f"what answers at {url} is no Prefect server's API") from error
