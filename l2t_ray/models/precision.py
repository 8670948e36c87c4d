"""What `training.precision` means: the type of parameters, and of the operands that convolutions multiply.

| precision | parameters, sums, batch norm, losses | the target's convolutions' operands | other products' |
| --- | --- | --- | --- |
| float32 | float32 | float32 | float32 |
| tf32 | float32 | TF32 on a card that has it, else float32 | as the target's |
| bf16 | float32 | bfloat16 | TF32 on a card that has it, else float32 |
| float64 | float64 | float64 | float64 |
"""

import torch


def parameter_type(precision: str) -> torch.dtype:
    """Returns the type of parameters and of every sum."""
    return torch.float64 if precision == "float64" else torch.float32


def operand_type(precision: str) -> torch.dtype | None:
    """Returns the type to which a target casts its convolutions' operands; None where it leaves them as they are."""
    return torch.bfloat16 if precision == "bf16" else None


def allow_tf32(precision: str) -> None:
    """Sets whether this process' products may round their operands to TF32; without a card nothing changes."""
    allowed = precision in {"tf32", "bf16"}
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
