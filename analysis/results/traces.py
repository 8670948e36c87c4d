"""What single values did during training, as runs store it: the artifact `traces.parquet`.

| column | meaning |
| --- | --- |
| epoch | epochs done; 0 is before training |
| name | `theta.conv3.weight`, or a meta-network's output for a pair of layers: `gamma.2-4`, `lambda.2-4`, `omega.2-4` |
| index | which entry of it, "" for a scalar |
| value | of that entry |
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.results.cells import Cell
from analysis.results.runs import Results
from l2t_ray.errors import InputError

ARTIFACT = "traces.parquet"
COLUMNS = ("epoch", "name", "index", "value")


@dataclass(frozen=True, eq=False)
class Trace:
    """One run's traces.

    Attributes:
        cell: of the run.
        seed: of the run.
        values: `COLUMNS`, and `kind` (theta, gamma, lambda, omega), `series` (name and index); by series and epoch.
        note: what it is of, where not of the training whose result counts.
    """

    cell: Cell
    seed: int
    values: "pd.DataFrame"
    note: str = ""

    def of(self, kind: str) -> "pd.DataFrame":
        """The values of one kind.

        Args:
            kind: theta, gamma, lambda or omega.

        Returns:
            The rows.
        """
        return self.values[self.values["kind"] == kind]

    @property
    def kinds(self) -> list[str]:
        """What is traced, in alphabetical order."""
        return sorted(set(self.values["kind"]))


def read_traces(results: Results, cells: Sequence[Cell]) -> list[Trace]:
    """The traces of each cell's lowest seed that has them.

    Args:
        results: of the ledger.
        cells: all.

    Returns:
        At most one a cell, in the order of tables.
    """
    found = []
    for cell in cells:
        for seed, run_id in sorted(cell.run_ids.items()):
            entry = results.entries[run_id]
            # a server is asked for those files alone that a run says it has
            content = results.reader.artifact(entry, ARTIFACT) if entry.tags.get("trace") else None
            if content is not None:
                found.append(Trace(cell, seed, _parse(content, run_id), entry.tags.get("trace_of", "")))
                break
    return found


def _parse(content: bytes, run_id: str) -> "pd.DataFrame":
    import pandas as pd

    try:
        trace = pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise InputError(f"run {run_id}: {ARTIFACT} must be Parquet, got {error}; delete the artifact") from error
    absent = [name for name in COLUMNS if name not in trace]
    if absent:
        raise InputError(
            f"run {run_id}: {ARTIFACT} must have the columns {', '.join(COLUMNS)}, lacks {', '.join(absent)}; "
            "delete the artifact"
        )
    parts = trace["name"].str.partition(".")
    index = trace["index"].where(trace["index"] == "", "[" + trace["index"] + "]")
    trace = trace[[*COLUMNS]].assign(kind=parts[0], series=parts[2] + index)
    return trace.sort_values(["kind", "series", "epoch"], kind="stable", ignore_index=True)
