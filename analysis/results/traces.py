"""Values of single weights and meta-network outputs during training, which runs store as the artifact `traces.parquet`.

| column | meaning |
| --- | --- |
| epoch | epochs done; 0 is before training |
| name | `theta.conv3.weight`, or a meta-network's output for a pair of layers: `gamma.2-4`, `lambda.2-4`, `omega.2-4` |
| index | which entry of the tensor; "" for a scalar |
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
    """The traces of one run."""

    cell: Cell
    seed: int
    # `COLUMNS`, `kind` (theta, gamma, lambda, omega) and `series` (name and index); sorted by series and epoch
    values: pd.DataFrame
    note: str = ""  # what it shows, if not the training whose result counts

    def of(self, kind: str) -> pd.DataFrame:
        """The values of one kind: theta, gamma, lambda or omega."""
        return self.values[self.values["kind"] == kind]

    @property
    def kinds(self) -> list[str]:
        """What is traced, in alphabetical order."""
        return sorted(set(self.values["kind"]))


def read_traces(results: Results, cells: Sequence[Cell]) -> list[Trace]:
    """The traces of each cell's lowest seed that stored any: at most one per cell, in the order of tables."""
    traces = []
    for cell in cells:
        for seed, run_id in sorted(cell.run_ids.items()):
            entry = results.entries[run_id]
            # a request to a server takes time, so ask only where the run says that it has traces
            content = results.reader.artifact(entry, ARTIFACT) if entry.tags.get("trace") else None
            if content is not None:
                traces.append(Trace(cell, seed, _parse(content, run_id), entry.tags.get("trace_of", "")))
                break
    return traces


def _parse(content: bytes, run_id: str) -> pd.DataFrame:
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
