"""Ingest uploads whose notification was lost."""

from prefect import flow

from tasks.context import require_all
from tasks.core.config.requests import ReconcileUploadsRequest
from tasks.labels import label_run
from tasks.timeouts import LONG_FLOW
from tasks.uploads import reconcile_dataset, subscribed_datasets


@flow(name="reconcile-uploads", on_running=[label_run], timeout_seconds=LONG_FLOW)
def reconcile_uploads(spec: ReconcileUploadsRequest = ReconcileUploadsRequest()) -> None:
    """Compare the uploads of each dataset with its index, each by itself: one that fails stops no other."""
    names = subscribed_datasets(spec)
    require_all({name: reconcile_dataset(name, return_state=True) for name in names}, "dataset")


if __name__ == "__main__":
    reconcile_uploads()
