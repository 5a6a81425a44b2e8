"""Withdraw a release permanently."""

from prefect import flow

from tasks.core.config.requests import WithdrawRequest
from tasks.labels import label_run
from tasks.lifecycle import notify_withdrawal, withdraw_generation
from tasks.reconcile import reconcile_projections
from tasks.timeouts import LONG_FLOW


@flow(name="withdraw-release", on_running=[label_run], timeout_seconds=LONG_FLOW)
def withdraw_release(spec: WithdrawRequest = WithdrawRequest()) -> None:
    """Withdraw it everywhere, serve its replacement, and send a notification even when a target is down."""
    done = withdraw_generation(spec)
    notify_withdrawal(spec, done)
    reconcile_projections(spec)


if __name__ == "__main__":
    withdraw_release()
