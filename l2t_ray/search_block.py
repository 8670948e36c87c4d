"""The `search:` of a sweep file: which settings are chosen on validation data, one study for each cell of the grid.

The grid says what is to be run in the end, on the test set. A search's own runs have other seeds and validation images,
and never see the test set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from l2t_ray.config import Count, Frozen, Run, Trace
from l2t_ray.settings import Setting, settings_of
from l2t_ray.space import Dimension

VARIANT = "tuned"
SUFFIX = "_best"


class SearchBlock(Frozen):
    """How a study is made; the space and the seeds are read beside it."""

    trials: Count = Field(
        30, description="of each study; the first has the file's own settings if the space holds them"
    )
    validation_per_class: Count = Field(
        description="training images of each class, held out, on which a trial is judged"
    )
    objective: Annotated[str, Field(min_length=1)] = Field(
        "validation_accuracy_percent", description="last value of a run; a trial's value is the mean over its seeds"
    )
    second_objective: Literal["wall_s"] | None = Field(None, description="the seconds of a run, to be small as well")
    sampler: Literal["tpe", "gp", "random", "qmc", "nsgaii"] = Field("tpe", description="Optuna's, by name")
    pruner: Literal["median", "percentile", "asha", "hyperband", "wilcoxon", "none"] = Field(
        "median", description="Optuna's, by name; it looks at a trial after each of its seeds"
    )
    parallel: Count = Field(4, description="trials of a study at once: more are faster and less informed")
    storage: str | None = Field(
        None, min_length=1, description="a journal file or a database's URL; OPTUNA_STORAGE wins over it"
    )
    best: str | None = Field(
        None, min_length=1, description="the sweep file to write; by default NAME_best.yaml beside"
    )
    untuned: bool = Field(False, description="the written file has the grid's own settings too, for comparison")
    run_best: bool = Field(False, description="the written file is run as soon as every study is done")


BLOCK: Mapping[str, Setting] = settings_of(SearchBlock, "search.")
PARTS = ("space", "seeds", *(name.partition(".")[2] for name in BLOCK))


@dataclass(frozen=True)
class Study:
    """The search for one cell's best settings.

    Attributes:
        name: the cell's.
        run: with the grid's own settings, to be run in the end.
        seeds: of the final runs, each with what it keeps of its training.
        space: what its method reads of the file's.
        validation_per_class: images held out.
        weights: SHA-256 by `source.weights`, where the space lists them.
    """

    name: str
    run: Run
    seeds: Mapping[int, Trace]
    space: tuple[Dimension, ...]
    validation_per_class: int
    weights: Mapping[str, str]

    def trial_run(self, labels: Mapping[str, Any], seed: int) -> Run:
        """A run of a trial.

        Args:
            labels: what Optuna keeps, by dotted name.
            seed: one of the search's.

        Returns:
            It is measured on validation images.
        """
        return self._with(labels, {"seed": seed, "data.validation_per_class": self.validation_per_class})

    def final_run(self, labels: Mapping[str, Any]) -> Run:
        """The first run of the final sweep.

        Args:
            labels: of the best trial.

        Returns:
            It is measured on the test set.
        """
        return self._with(labels, {"seed": next(iter(self.seeds))})

    def trial_cell(self, number: int) -> str:
        """The cell of a trial's runs.

        Args:
            number: Optuna's.

        Returns:
            The study's with `trial=NUMBER` as its variant, or behind it.
        """
        return f"{self.name}{',' if self.name.count('/') > 2 else '/'}trial={number}"

    def own_labels(self) -> dict[str, Any] | None:
        """The grid's own settings as a point of the space.

        Returns:
            None where one of them lies outside.
        """
        found = {dimension.name: dimension.label(_get(self.run, dimension.name)) for dimension in self.space}
        return None if None in found.values() else found

    def _with(self, labels: Mapping[str, Any], more: Mapping[str, Any]) -> Run:
        values = self.run.model_dump()
        if "data.validation_per_class" in more:
            values.pop("trace", None)  # of the final runs alone
        chosen = {dimension.name: dimension.value(labels[dimension.name]) for dimension in self.space}
        for name, value in {**chosen, **more}.items():
            section, _, inner = name.rpartition(".")
            (values[section] if section else values)[inner] = value
        if (weights := values["source"]["weights"]) in self.weights:
            values["source"]["sha256"] = self.weights[weights]
        return Run.model_validate(values)


@dataclass(frozen=True)
class Search:
    """A sweep file's search.

    Attributes:
        settings: how a study is made.
        seeds: of every trial, in the order of training.
        studies: one for each cell.
        best_file: where the final sweep is written.
    """

    settings: SearchBlock
    seeds: tuple[int, ...]
    studies: tuple[Study, ...]
    best_file: Path

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metrics, the first to be large or small by its name, seconds to be small."""
        second = self.settings.second_objective
        return (self.settings.objective, second) if second else (self.settings.objective,)

    @property
    def modes(self) -> tuple[str, ...]:
        """Tune's words for the directions of `objectives`."""
        return tuple("max" if "accuracy" in name else "min" for name in self.objectives)

    @property
    def n_runs(self) -> int:
        """The most that the studies' trials come to."""
        return len(self.studies) * self.settings.trials * len(self.seeds)


def _get(run: Run, name: str) -> Any:
    section, _, inner = name.rpartition(".")
    found = getattr(run, section) if section else getattr(run, inner)
    if not section:
        return found
    return found.get(inner) if isinstance(found, dict) else getattr(found, inner)
