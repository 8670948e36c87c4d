"""What the sweep file, the launch and the ledger ask of a run, whatever trains it; and the metric by which it counts.

`config.Run` is a run of the built-in trainer, `trainer.run.OwnRun` one of a trainer of the user's own.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

KEY_DIGITS = 16
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Metric:
    """The result by which runs are compared."""

    name: str
    lower_is_better: bool = False
    margin: float = 1.0  # the smallest difference that matters


ACCURACY = Metric("test_accuracy_percent")  # of the built-in trainer


class AnyRun(BaseModel):
    """One training, frozen, and known by the hash of every setting that can change its result."""

    if TYPE_CHECKING:
        seed: int

    def __copy__(self) -> Self:
        """Returns a copy without the cached properties, because `model_copy` is about to change a setting."""
        copied = super().__copy__()
        for name in ("key", "around_seed"):
            copied.__dict__.pop(name, None)
        return copied

    def resolved(self) -> dict[str, Any]:
        """Returns every setting that can change the result, defaults included, as plain JSON values, also `seed`."""
        raise NotImplementedError

    def setting(self, name: str) -> Any:
        """Returns a setting's plain value by its dotted name; None where there is none."""
        raise NotImplementedError

    def labels(self, cell: str) -> dict[str, Any]:
        """Returns what a report groups the run by: data, samples_per_class (the axis), method.

        Args:
            cell: the name of the run's cell.
        """
        raise NotImplementedError

    def at_speed(self) -> Self:
        """Returns this run, or one whose epochs take as long: for the figures of a measurement."""
        return self

    @property
    def title(self) -> str:
        """What is trained, in words for a line of progress."""
        raise NotImplementedError

    @property
    def epochs(self) -> int:
        """Epochs of the training; 1 where only the trainer knows."""
        return 1

    @property
    def n_evaluations(self) -> int:
        """Evaluations that take time of their own."""
        return 0

    @property
    def may_pack(self) -> bool:
        """Whether several runs of one shape can be trained together, faster than alone."""
        return False

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the files that the run keeps beside its results, without its traces."""
        return ()

    @property
    def extras(self) -> tuple[str, ...]:
        """All that is kept beside the results: traces and files. A finished run that lacks one is trained again."""
        return ()

    @property
    def data_sha(self) -> str:
        """Digest of the run's data, where the settings hold it."""
        return ""

    @property
    def code(self) -> Mapping[str, str]:
        """The user's files that train it: name to the start of the SHA-256."""
        return {}

    @cached_property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of the resolved settings as sorted JSON."""
        head, tail = self.around_seed
        return hashlib.sha256(f"{head}{self.seed}{tail}".encode()).hexdigest()[:KEY_DIGITS]

    @cached_property
    def around_seed(self) -> tuple[str, str]:
        """The sorted JSON before and after the seed's value: what the runs of one cell have in common."""
        settings = self.resolved()
        head = _JSON.encode({name: value for name, value in settings.items() if name < "seed"})
        tail = _JSON.encode({name: value for name, value in settings.items() if name > "seed"})
        return f'{head[:-1]},"seed":', f",{tail[1:]}"

    def with_seeds(self, seeds: Iterable[int]) -> Iterator[Self]:
        """Yields this run with each of the (valid) seeds; encodes the settings once for all of their keys."""
        head, tail = self.around_seed
        for seed in seeds:
            run = self.model_copy(update={"seed": seed})
            # the place of the cached property
            run.__dict__["key"] = hashlib.sha256(f"{head}{seed}{tail}".encode()).hexdigest()[:KEY_DIGITS]
            yield run
