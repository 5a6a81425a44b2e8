"""A release is taken back for good."""

from prefect import flow

from tasks.core.config.requests import WithdrawRequest
from tasks.lifecycle import tell_of_withdrawal, withdraw_generation
from tasks.reconcile import put_right
from tasks.timeouts import LONG_FLOW


@flow(name="withdraw-release", timeout_seconds=LONG_FLOW)
def withdraw_release(spec: WithdrawRequest = WithdrawRequest()) -> None:
    """Withdraw it everywhere, serve what takes its place, and tell people even where a place is down."""
    done = withdraw_generation(spec)
    tell_of_withdrawal(done)
    put_right()


if __name__ == "__main__":
    withdraw_release()
