"""A sweep file's outer form, and its `execution:`: how runs are trained, which is never part of a key."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from l2t_ray.config import Count, Frozen, NonNegative, Positive


def _unit_fraction(share: float) -> float:
    if 1 - share * int(1 / share + 1e-9) > 0.05:  # 0.33 is meant as a third; 0.15 would leave a tenth to nobody
        raise ValueError("must be auto, or 1 / k for a whole number k (1, 0.5, 0.3333, 0.25, ...)")
    return share


class Execution(Frozen):
    """How runs are trained: nothing in here can change a result."""

    gpu_share: Literal["auto"] | Annotated[float, Field(gt=0, le=1), AfterValidator(_unit_fraction)] = Field(
        "auto", description="1 / k: trials side by side on one GPU"
    )
    pack: Literal["auto"] | Count = Field("auto", description="runs trained together in one process")
    mps: Literal["auto", "off", "on"] = Field("auto", description="NVIDIA's service, by which processes share a card")
    threads: Literal["auto"] | Count = Field("auto", description="CPU threads of a trial")
    retries: Annotated[int, Field(ge=0)] = Field(2, description="further attempts for a run that raised")
    storage: str = Field(
        ".l2t", description="folder of checkpoints, or s3:// or gs://; all machines must see it", min_length=1
    )
    data_dir: str = Field("data", description="folder of the data sets", min_length=1)
    download: bool = Field(True, description="fetch data sets that are not there")
    checkpoint_s: NonNegative = Field(60, description="seconds between checkpoints, at the least")
    hang_s: Positive = Field(300, description="an epoch may take these seconds and 30 times what it should")
    price_per_hour: NonNegative | None = Field(None, description="of the whole machine or cluster; told in the plan")


class SweepFile(Frozen):
    """A sweep file's outer form; `sweepfile.read_sweep` expands its blocks."""

    sweep: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="the name: MLflow's experiment, and folders"
    )
    methods: tuple[str, ...] = Field((), description="Python files with methods of your own")
    run: dict[str, Any] = Field(default_factory=dict, description="settings of every block, unless it says otherwise")
    grid: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = Field(
        description="blocks: each is the product of its lists; `variant:` names its cells"
    )
    execution: Execution = Field(Execution(), description="how, never what")
