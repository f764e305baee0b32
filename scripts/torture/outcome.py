"""What a part of the torture found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How a part ended."""

    passed: bool
    line: str  # its result in one line: what was done how often, and how much of it failed
    failures: tuple[str, ...] = ()  # one line each: what failed, and how to repeat it


def outcome(line: str, failures: list[str]) -> Outcome:
    """Passed where nothing failed."""
    return Outcome(not failures, line, tuple(failures))
