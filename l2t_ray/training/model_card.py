"""The card beside a file of weights: what was trained on what, how well, and whose weights it tells of.

A card is written before its weights, so that weights without one were never made here; a card alone is no obstacle.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2t_ray.errors import InputError
from l2t_ray.files import compute_sha256
from l2t_ray.training.source_settings import Pretraining, differences

ELSEWHERE = "name another file in `out`"
REMEDY = f"{ELSEWHERE}, or train anew with --force"

Card = Mapping[str, Any]


def card_path(out: Path) -> Path:
    """Where a file of weights has its card.

    Args:
        out: the weights.

    Returns:
        The path beside it; `a.pt` and `a.bin` have the same.
    """
    return out.with_suffix(".json")


def check_places(out: Path) -> None:
    """Refuses, before anything is trained, what could not be written in the end.

    Args:
        out: the weights to come.

    Raises:
        InputError: if a folder is in the way, or the card there is of another file of weights.
    """
    if out.is_dir():
        raise InputError(f"{out}: must be a file of weights, got a folder; {ELSEWHERE}")
    card = card_path(out)
    if card.is_dir():
        raise InputError(f"{out}: must have room for its card {card}, got a folder; {ELSEWHERE}")
    if (owner := _other_owner(out)) is not None:
        raise InputError(f"{out}: must have a card of its own, got {card}, which is that of {owner}; {ELSEWHERE}")


def find_card(out: Path, settings: Pretraining) -> Card | None:
    """The card of weights that are there already.

    Args:
        out: the weights.
        settings: of the training that they must come from.

    Returns:
        The card; None where there are no weights.

    Raises:
        InputError: if there are others, which must not be overwritten.
    """
    if not out.exists():
        return None
    card = card_path(out)
    try:
        content: Card = json.loads(card.read_bytes())
        known, sha256 = content["settings"], content["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out}: must not be there, or have the card {card} of its training; {REMEDY}") from None
    is_its_own = compute_sha256(out) == sha256
    if not is_its_own:
        check_places(out)
    if found := differences(known, settings.resolved()):
        raise InputError(f"{out}: holds weights of other settings: {'; '.join(found)}; {REMEDY}")
    if not is_its_own:
        raise InputError(f"{out}: must hold the weights that {card} describes, got others; {REMEDY}")
    return content


def remove_weights(out: Path) -> None:
    """Removes weights and then their card; there may be none.

    Args:
        out: the weights.
    """
    out.unlink(missing_ok=True)
    card_path(out).unlink(missing_ok=True)


def told(out: Path, card: Card) -> str:
    """What a training came to.

    Args:
        out: the weights.
        card: of them.

    Returns:
        One line.
    """
    return (
        f"{out}: {card['test_accuracy_percent']:.2f} % of {card['n_test']} test images of {card['data']} "
        f"({len(card['classes'])} classes) in {card['wall_s']:.0f} s; its card is {card_path(out)}"
    )


def _other_owner(out: Path) -> Path | None:
    """Other weights whose card lies where these would have theirs; older cards tell of theirs by the digest alone."""
    card = card_path(out)
    try:
        content = json.loads(card.read_bytes())
        name, sha256 = content.get("file"), content["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    others = [path for path in out.parent.iterdir() if card_path(path) == card and path not in {out, card}]
    for path in sorted(other for other in others if other.is_file()):
        if path.name == name or (name is None and compute_sha256(path) == sha256):
            return path
    return None
