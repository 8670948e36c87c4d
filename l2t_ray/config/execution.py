"""How runs are trained. It can change no result, so it is no part of a run's key."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from l2t_ray.config.sections import Count, Frozen, LocalPath, NonNegative, Positive


def _unit_fraction(share: float) -> float:
    if 1 - share * int(1 / share + 1e-9) > 0.05:  # 0.33 means a third; 0.15 would leave a tenth of the card unused
        raise ValueError("must be auto, or 1 / k for a whole number k (1, 0.5, 0.3333, 0.25, ...)")
    return share


class Execution(Frozen):
    """How runs are trained: none of these settings can change a result."""

    gpu_share: Literal["auto"] | Annotated[float, Field(gt=0, le=1), AfterValidator(_unit_fraction)] = Field(
        "auto", description="1 / k: trials side by side on one GPU"
    )
    pack: Literal["auto"] | Count = Field("auto", description="runs trained together in one process")
    mps: Literal["auto", "off", "on"] = Field("auto", description="NVIDIA's service that lets processes share a card")
    threads: Literal["auto"] | Count = Field("auto", description="CPU threads of a trial")
    retries: Annotated[int, Field(ge=0)] = Field(2, description="further attempts for a run that raised an exception")
    fail_fast: bool = Field(
        True, description="two runs of a cell that raise the same error stop the cell; not for memory, time or machine"
    )
    storage: str = Field(
        ".l2t", description="folder of checkpoints, or s3:// or gs://; all machines must see it", min_length=1
    )
    data_dir: LocalPath = Field("data", description="folder of the data sets")
    download: bool = Field(True, description="fetch data sets that are not there")
    checkpoint_s: NonNegative = Field(60, description="seconds between checkpoints, at the least")
    hang_s: Positive = Field(
        300,
        description="an epoch may take these seconds and 30 times its expected time; the backend `inline` ends none",
    )
    slurm: dict[str, str | int | bool] = Field(
        {}, description="with `--backend slurm`: options of sbatch by their names (`{partition: gpu, time: 240}`)"
    )
    slurm_jobs: Count = Field(8, description="with `--backend slurm`: jobs of the array, at most")
    price_per_hour: NonNegative | None = Field(
        None, description="of the whole machine or cluster; the plan shows the cost"
    )
