"""Checks what a `trace:` names: entries of the target's parameters, and pairs of levels that are matched."""

from collections.abc import Iterator

from l2t_ray.config import Target
from l2t_ray.errors import suggest
from l2t_ray.registry import network_problems
from l2t_ray.sweepfile.blocks import Block

WIDEST = 1000.0  # widest target whose entries are checked; a wider one fits in no memory anyway


def trace_problems(block: Block) -> Iterator[str]:
    """Yields a line for everything that a block asks to trace and its cells do not have."""
    for entries in block.values("trace.gamma"):
        for pairs in block.values("transfer.pairs"):
            known = pairs.value if isinstance(pairs.value, str) else {f"{m}-{n}" for m, n in pairs.value}
            for entry in entries.value if not isinstance(known, str) else ():
                if (pair := entry.partition("[")[0]) not in known:
                    rule = f"trace.gamma must name pairs of transfer.pairs, {', '.join(sorted(known))}"
                    yield f"{entries.item.place}: {rule}, got {pair!r}; correct it"
    for entries in block.values("trace.weights"):
        for entry in entries.value:
            for target in _targets(block):
                if problem := _weight_problem(entry, target):
                    yield f"{entries.item.place}: {problem}"


def _targets(block: Block) -> Iterator[Target]:
    """Yields the targets of a block's cells."""
    archs = [choice.value for choice in block.values("target.arch")] or [Target().arch]
    widths = [choice.value for choice in block.values("target.width")] or [Target().width]
    pairs = ((arch, width) for arch in archs for width in widths)
    return (Target(arch=a, width=w) for a, w in pairs if not [*network_problems("target", a, w, None)])


def _weight_problem(entry: str, target: Target) -> str | None:
    """Returns what is wrong with an entry of `trace.weights`, or None."""
    from l2t_ray.models import parameter_shapes  # torch takes seconds to import

    name, _, index = entry.removesuffix("]").partition("[")
    if name.startswith("project.") or target.width > WIDEST:
        return None
    shapes = parameter_shapes(target)
    if name not in shapes:
        return f"trace.weights must name parameters of the target, got {name!r}; {suggest(name, sorted(shapes))}"
    sizes = shapes[name]
    places = [int(number) for number in index.split(",")] if index else []
    n_first = 1 if name.startswith("fc.") else 0  # the classifier's rows are checked once the data are read
    inside = all(place < size for place, size in zip(places[n_first:], sizes[n_first:], strict=False))
    if places and (len(places) != len(sizes) or not inside):
        limits = ["classes", *sizes[1:]] if n_first else [*sizes]
        rule = f"trace.weights must have an index below [{', '.join(map(str, limits))}] for {name}"
        return f"{rule}, got [{index}]; correct it"
    return None
