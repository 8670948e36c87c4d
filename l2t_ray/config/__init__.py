"""The settings of a run of the built-in trainer, and of how runs are trained."""

from l2t_ray.config.execution import Execution
from l2t_ray.config.run import (
    LOCATIONS,
    OPTIONAL_SECTIONS,
    Run,
    drop_later,
    flat,
    like_default,
    pack_shape,
    reads_source,
    weights_files,
)  # fmt: skip
from l2t_ray.config.sections import (
    LABEL,
    PREDICTIONS,
    TARGET,
    Augment,
    Count,
    Data,
    Frozen,
    Positive,
    Record,
    Source,
    Target,
    Trace,
    Training,
    Transfer,
)  # fmt: skip

__all__ = [
    "LABEL", "LOCATIONS", "OPTIONAL_SECTIONS", "PREDICTIONS", "TARGET", "Augment", "Count", "Data", "Execution",
    "Frozen", "Positive", "Record", "Run", "Source", "Target", "Trace", "Training", "Transfer", "drop_later", "flat",
    "like_default", "pack_shape", "reads_source", "weights_files",
]  # fmt: skip
