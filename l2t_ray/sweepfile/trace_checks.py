"""What a `trace:` may name: entries of the target's parameters, and pairs that are matched."""

from collections.abc import Iterator

from l2t_ray.config import Target
from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import Block

WIDEST = 1000.0  # of a target whose shapes are formed, on no device; a wider one fits nowhere


def trace_problems(block: Block) -> Iterator[str]:
    """What cannot be traced in a block's cells.

    Args:
        block: its choices.

    Yields:
        A line a problem.
    """
    for entries in block.values("trace.gamma"):
        for pairs in block.values("transfer.pairs"):
            known = pairs.value if isinstance(pairs.value, str) else {f"{m}-{n}" for m, n in pairs.value}
            for entry in entries.value if not isinstance(known, str) else ():
                if (pair := entry.partition("[")[0]) not in known:
                    law = f"trace.gamma must name pairs of transfer.pairs, {', '.join(sorted(known))}"
                    yield f"{entries.item.place}: {law}, got {pair!r}; correct it"
    for entries in block.values("trace.weights"):
        for entry in entries.value:
            for target in _targets(block):
                if problem := _weight_problem(entry, target):
                    yield f"{entries.item.place}: {problem}"


def _targets(block: Block) -> Iterator[Target]:
    """The targets of a block's cells."""
    archs = [choice.value for choice in block.values("target.arch")] or [Target().arch]
    widths = [choice.value for choice in block.values("target.width")] or [Target().width]
    return (Target(arch=arch, width=width) for arch in archs for width in widths)


def _weight_problem(entry: str, target: Target) -> str | None:
    """What is wrong with an entry of `trace.weights`; the projections and the number of classes are known later."""
    from l2t_ray.models import parameter_shapes  # torch takes seconds to import

    name, _, index = entry.removesuffix("]").partition("[")
    if name.startswith("project.") or target.width > WIDEST:
        return None
    shapes = parameter_shapes(target)
    if name not in shapes:
        return f"trace.weights must name parameters of the target, got {name!r}; {suggest(name, sorted(shapes))}"
    sizes = shapes[name]
    places = [int(number) for number in index.split(",")] if index else []
    n_checked = 1 if name.startswith("fc.") else 0
    inside = all(place < size for place, size in zip(places[n_checked:], sizes[n_checked:], strict=False))
    if places and (len(places) != len(sizes) or not inside):
        told = ["classes", *sizes[1:]] if n_checked else [*sizes]
        law = f"trace.weights must have an index below [{', '.join(map(str, told))}] for {name}"
        return f"{law}, got [{index}]; correct it"
    return None
