"""The numbers for machines: what `--json` prints."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.cells import Cell, Condition
from analysis.comparison import Comparison
from analysis.results import Gap, Results


def summary_json(results: Results, cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Everything that the tables show, unrounded.

    Args:
        results: of the ledger.
        cells: all.
        comparisons: of one pair.

    Returns:
        Plain values without nan.
    """
    return {
        "sweeps": list(results.sweeps),
        "n_wanted": len(results.wanted),
        "n_finished": len(results.runs),
        "cells": [_cell(cell) for cell in cells],
        "comparisons": [_comparison(item) for item in comparisons],
        "missing": [_gap(gap) for gap in results.gaps],
        "notices": list(results.notices),
    }


def _place(condition: Condition) -> dict[str, str]:
    return {"data": condition.data, "samples_per_class": condition.samples_per_class, "variant": condition.variant}


def _cell(cell: Cell) -> dict[str, Any]:
    mean = cell.mean
    return {
        **_place(cell.condition),
        "method": cell.method,
        "n": mean.n,
        "n_wanted": cell.n_wanted,
        "mean": mean.mean,
        "sd": mean.sd,
        "half_width_95": mean.half_width,
        "values": {str(seed): value for seed, value in cell.values.items()},
    }


def _comparison(item: Comparison) -> dict[str, Any]:
    return {
        **_place(item.condition),
        "a": item.a.method,
        "b": item.b.method,
        "difference": item.difference,
        "mann_whitney": asdict(item.test),
    }


def _gap(gap: Gap) -> dict[str, Any]:
    run = gap.wanted
    return {"key": run.key, "cell": run.cell, "seed": run.seed, "state": gap.outcome, "reason": gap.reason}
