"""The flow of the tests' runs. No container executes it: the tests set the states that its container would set."""

from prefect import flow


@flow(name="task-work")
def work() -> None:
    """Do nothing."""
