"""The artifact `traces.parquet`, as `analysis.results.traces` reads it; two files of one run can be merged."""

import base64
import io
from collections.abc import Sequence
from typing import Any

ARTIFACT = "traces.parquet"
Column = tuple[str, str]  # name and index, "" for a scalar


def encode(columns: Sequence[Column], epochs: Sequence[int], values: Any) -> dict[str, str]:
    """Returns a run's trace as an artifact: the file's content as base64, by its name.

    Args:
        columns: what was traced.
        epochs: when, rising; 0 is before training.
        values: float32 [columns, epochs], a tensor or an array.
    """
    import numpy as np
    import pyarrow as pa

    n_epochs = len(epochs)
    table = pa.table({
        "epoch": pa.array(np.tile(np.asarray(epochs, np.int32), len(columns))),
        "name": pa.array(name for name, _ in columns for _ in range(n_epochs)),
        "index": pa.array(index for _, index in columns for _ in range(n_epochs)),
        "value": pa.array(np.ascontiguousarray(np.asarray(values, np.float32)).reshape(-1)),
    })
    return {ARTIFACT: base64.b64encode(_write(table)).decode()}


def merge(older: bytes, newer: bytes) -> bytes:
    """Returns both traces of a run as one file; where both have a column, the newer one's counts."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    old, new = (pq.read_table(io.BytesIO(content)) for content in (older, newer))
    names = [pc.binary_join_element_wise(table["name"], table["index"], "[") for table in (old, new)]
    kept = old.filter(pc.invert(pc.is_in(names[0], pc.unique(names[1]))))
    return _write(pa.concat_tables([kept, new.select(kept.column_names)]))


def _write(table: Any) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    encoding = {"value": "BYTE_STREAM_SPLIT"}  # consecutive values share their leading bytes
    dictionary = ["epoch", "name", "index"]
    pq.write_table(table, buffer, compression="zstd", use_dictionary=dictionary, column_encoding=encoding)
    return buffer.getvalue()
