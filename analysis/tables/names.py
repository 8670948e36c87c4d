"""Methods, data sets and places by the names that people write."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar

from analysis.results.cells import Condition
from analysis.results.comparison import Comparison
from analysis.results.published import plain
from analysis.results.wanted import TRANSFER, Factors

MINUS = "\N{MINUS SIGN}"
NAMES = {
    "scratch": "From scratch", "ufm": "UFM", "l2t_ww": "L2T-ww", "l2t_www": "L2T-www", "hint": "Hint",
    "attention_transfer": "Attention transfer", "factor_transfer": "Factor transfer", "distillation": "Distillation",
    "finetune": "Fine-tuning", "intermediate_finetune": "Intermediate fine-tuning", "spottune": "SpotTune",
    "linear_probe": "Linear probe", "surgical": "Surgical fine-tuning", "l2_sp": "L2-SP", "bss": "BSS",
    "stochnorm": "StochNorm", "co_tuning": "Co-Tuning", "delta": "DELTA", "lora": "LoRA",
}  # fmt: skip
DATA = {
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "stl10": "STL-10", "svhn": "SVHN", "mnist": "MNIST",
    "fashionmnist": "Fashion-MNIST", "tinyimagenet": "Tiny ImageNet", "imagenet": "ImageNet", "digits": "Digits",
}  # fmt: skip


_apart: ContextVar[tuple[frozenset[str], frozenset[str]]] = ContextVar("apart", default=(frozenset(), frozenset()))


def keep_apart(arms: Iterable[str], data: Iterable[str]) -> None:
    """From here on, arms and data sets of a report that people would call the same are shown by their own names."""
    _apart.set((_alike(arms, _arm_name), _alike(data, _data_name)))


def arm_name(arm: str) -> str:
    """The name of an arm for people: `l2t_www/beta=0.1` is `L2T-www beta=0.1`."""
    arm = arm.removesuffix("/")
    return arm if arm in _apart.get()[0] else _arm_name(arm)


def data_name(data: str) -> str:
    """A data set's name as people write it: `cifar10` is `CIFAR-10`; a name that is not known stays as it is."""
    return data if data in _apart.get()[1] else _data_name(data)


def _arm_name(arm: str) -> str:
    method, _, variant = arm.partition("/")
    return f"{NAMES.get(method, method)} {variant}".strip()


def _data_name(data: str) -> str:
    return DATA.get(plain(data), data)


def _alike(names: Iterable[str], shown: Callable[[str], str]) -> frozenset[str]:
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[shown(name)].add(name)
    return frozenset(name for group in groups.values() if len(group) > 1 for name in group)


def samples_text(label: str, factors: Factors = TRANSFER) -> str:
    """Images per class, or what has their part, in words: 10 images a class, 1 image a class; n_samples 10; nothing."""
    if factors != TRANSFER:
        return f"{factors.axis} {label}" if factors.axis else ""
    return f"{label} image{'' if label == '1' else 's'} a class"


def where_text(condition: Condition) -> str:
    """Data and axis in a sentence: `CIFAR-10 with 10 images a class`, `iris`."""
    axis = samples_text(condition.samples_per_class, condition.factors)
    return f"{data_name(condition.data)} with {axis}" if axis else data_name(condition.data)


def place_titles(condition: Condition) -> tuple[str, ...]:
    """The titles of the columns that `condition_text` fills: the axis only where there is one."""
    factors = condition.factors
    return (factors.data, factors.axis) if factors.axis else (factors.data,)


def place_cells(condition: Condition) -> tuple[str, ...]:
    """The texts of these columns."""
    name = data_name(condition.data)
    return (name, condition.samples_per_class) if condition.factors.axis else (name,)


def place_text(condition: Condition) -> str:
    """A condition in words: `CIFAR-10, 10 images a class`."""
    axis = samples_text(condition.samples_per_class, condition.factors)
    parts = (data_name(condition.data), axis, condition.variant)
    return ", ".join(part for part in parts if part)


def family_text(comparisons: Sequence[Comparison]) -> str:
    """What p is corrected over, in words."""
    return f"all {len(comparisons)} comparisons of this report" if len(comparisons) > 1 else "this one comparison"


def one_pair(comparisons: Sequence[Comparison]) -> bool:
    """Whether all comparisons are of the same two methods."""
    return len({(item.a.method, item.b.method) for item in comparisons}) == 1


def pair_place(item: Comparison, comparisons: Sequence[Comparison]) -> str:
    """Where a comparison stands among others, in words: its place and, if several pairs are compared, its methods."""
    if one_pair(comparisons):
        return place_text(item.condition)
    axis = samples_text(item.condition.samples_per_class, item.condition.factors)
    return ", ".join(part for part in (data_name(item.condition.data), axis, methods_text(item)) if part)


def methods_text(item: Comparison) -> str:
    """The two methods of a comparison: `UFM - From scratch`, with a true minus."""
    return f"{arm_name(item.a.arm)} {MINUS} {arm_name(item.b.arm)}"
