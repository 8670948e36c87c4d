"""The exceptions of this project: bad input, with its place and remedy, and a ledger that cannot be reached."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something that the user gave breaks a law; every problem found is told, and the command line exits with 2.

    Attributes:
        problems: one line each: place, law, value, remedy (`sweeps/x.yaml:14: beta must be >= 0, got -1`).
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class LedgerUnavailableError(ConnectionError):
    """The tracking server or database does not answer; results stay in the spool until it does."""
