"""Checks the networks that a block names: width and levels against the architecture, levels against its graph."""

from collections.abc import Iterator

from l2t_ray import registry
from l2t_ray.config import Source, Target
from l2t_ray.errors import InputError
from l2t_ray.registry import IMAGE_SIZE, default_levels, has_places
from l2t_ray.sweepfile.blocks import Block, Choice
from l2t_ray.sweepfile.yaml_lines import Item

NETWORKS: dict[str, type[Source] | type[Target]] = {"source": Source, "target": Target}


def network_values(block: Block, section: str, name: str, item: Item) -> list[Choice]:
    """Returns the choices of a network's setting; its default, at the given item, where it is left out."""
    default = NETWORKS[section].model_fields[name].default
    return block.values(f"{section}.{name}") or [Choice(default, item)]


def network_problems(block: Block) -> Iterator[str]:
    """Yields a line for each network whose settings contradict each other, and for each level that does not exist."""
    for section in NETWORKS:
        for arch in block.values(f"{section}.arch"):
            for width in network_values(block, section, "width", arch.item):
                for levels in network_values(block, section, "levels", arch.item):
                    found = registry.network_problems(section, arch.value, width.value, levels.value)
                    chosen = (("arch", arch), ("width", width), ("levels", levels))
                    places = {f"{section}.{name}": choice.item.place for name, choice in chosen}
                    problems = [f"{places[setting]}: {setting} {problem}" for setting, problem in found]
                    yield from problems
                    if not problems and has_places(arch.value):
                        yield from _level_problems(block, section, arch, levels)


def recompute_problems(block: Block) -> Iterator[str]:
    """Yields a line where a target is asked to compute its parts again and cannot."""
    for recompute in block.values("training.recompute"):
        for arch in network_values(block, "target", "arch", recompute.item):
            if problem := registry.recompute_problem(arch.value, recompute=recompute.value):
                yield f"{recompute.item.place}: training.recompute {problem}"


def _level_problems(block: Block, section: str, arch: Choice, levels: Choice) -> Iterator[str]:
    from l2t_ray.models.zoo import plan  # torch takes seconds to import

    for size in block.values("data.image_size") or [Choice(IMAGE_SIZE, arch.item)]:
        try:
            plan(arch.value, levels.value or default_levels(arch.value), size.value)
        except InputError as error:
            for problem in error.problems:
                of_size, of_arch = problem.startswith("data."), problem.startswith("arch ")
                item = arch.item if of_arch else levels.item
                yield f"{size.item.place}: {problem}" if of_size else f"{item.place}: {section}.{problem}"
