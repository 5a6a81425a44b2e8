"""Progress of a run on the page of the Prefect server."""

from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.core.clock import Throttle
from tasks.core.errors import Terminated


class ProgressArtifact:
    """A progress artifact, updated rarely; an error of the server is recorded, and fails nothing."""

    def __init__(self, key: str, text: str) -> None:
        self.key, self.fault = key, ""
        self.artifact: UUID | None = None
        self.pace = Throttle()
        self._write(0.0, text)

    def show(self, done: int, of: int, text: str) -> None:
        """Show so many of so many, if an update is due or it is the last."""
        if self.pace.due() or done == of:
            with self.pace.action():
                self._write(100 * done / of, text)

    def _write(self, share: float, text: str) -> None:
        try:
            if self.artifact:
                update_progress_artifact(self.artifact, share, description=text)
            else:
                created = create_progress_artifact(share, key=self.key, description=text)
                self.artifact = created if isinstance(created, UUID) else None
            self.fault = ""
        except Terminated:
            raise
        except Exception as error:  # boundary to a service: the work must not fail with it
            self.fault = f"the progress artifact is incomplete ({type(error).__name__}: {error})"
