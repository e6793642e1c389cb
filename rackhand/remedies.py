"""What to do next where NVML does not work, by the state that it says it is in."""

from rackhand.catalog.health import health_book


def nvml(state: str) -> str:
    """Return the next step for a state other than ok."""
    return health_book().finding(f"nvml-{state}").advice
