"""Forget a picture, or what a visitor has sent."""

from prefect import flow

from tasks.core.config.requests import ForgetRequest
from tasks.forget import delete_artifacts, delete_picture, delete_session
from tasks.labels import label_run
from tasks.timeouts import LONG_FLOW


@flow(name="forget", on_running=[label_run], timeout_seconds=LONG_FLOW)
def forget(spec: ForgetRequest = ForgetRequest()) -> None:
    """Report what holds it and, but for a dry run, delete it."""
    if spec.session:
        delete_session(spec)
    else:
        delete_artifacts(spec, delete_picture(spec))


if __name__ == "__main__":
    forget()
