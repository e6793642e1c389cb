"""Read the one line with which a run explains why a host failed."""

from tests.lab.deploying import Result


def failed(result: Result, name: str, code: str) -> str:
    """Check that the run failed with one clear line under `code`, and return the line."""
    assert result.status == 1, result.printed
    problem = result.problem(name)
    assert problem["code"] == code, result.printed
    assert problem["where"] == f"@lab/{name}"
    line = f"{problem['where']}: {problem['what']} [{code}] → {problem['next_step']}"
    assert line in result.printed
    assert "Traceback" not in line
    assert len(line) < 500
    print(line)
    return line
