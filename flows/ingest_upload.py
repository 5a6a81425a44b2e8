"""Ingest uploads into an immutable dataset version."""

from prefect import flow

from tasks.core.config.requests import IngestRequest
from tasks.ingest import announce_dataset, ingest_uploads
from tasks.labels import label_run
from tasks.timeouts import LONG_FLOW


@flow(name="ingest-upload", on_running=[label_run], timeout_seconds=LONG_FLOW)
def ingest_upload(spec: IngestRequest = IngestRequest()) -> None:
    """Validate the uploads, quarantine invalid files, write the version and emit its event."""
    manifest = ingest_uploads(spec)
    announce_dataset(manifest)


if __name__ == "__main__":
    ingest_upload()
