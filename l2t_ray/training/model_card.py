"""The card beside a file of weights: what was trained on what, how well, and which file of weights it describes.

A card is written before its weights, so that weights without a card come from elsewhere; a card alone blocks nothing.
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
    """Returns the card's path beside a file of weights; `a.pt` and `a.bin` share one."""
    return out.with_suffix(".json")


def check_places(out: Path) -> None:
    """Refuses, before anything is trained, a file of weights that could not be written in the end.

    Args:
        out: the weights to write.

    Raises:
        InputError: if a folder is in the way, or the card there describes another file of weights.
    """
    if out.is_dir():
        raise InputError(f"{out}: must be a file of weights, got a folder; {ELSEWHERE}")
    card = card_path(out)
    if card.is_dir():
        raise InputError(f"{out}: must have room for its card {card}, got a folder; {ELSEWHERE}")
    if (owner := _other_owner(out)) is not None:
        raise InputError(f"{out}: must have a card of its own, got {card}, which is that of {owner}; {ELSEWHERE}")


def find_card(out: Path, settings: Pretraining) -> Card | None:
    """Returns the card of existing weights; None where there are none.

    Args:
        out: the weights.
        settings: of the training that they must come from.

    Raises:
        InputError: if the weights are others, which must not be overwritten.
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
    if changed := differences(known, settings.resolved()):
        raise InputError(f"{out}: holds weights of other settings: {'; '.join(changed)}; {REMEDY}")
    if not is_its_own:
        raise InputError(f"{out}: must hold the weights that {card} describes, got others; {REMEDY}")
    return content


def remove_weights(out: Path) -> None:
    """Removes weights and then their card; both may be missing."""
    out.unlink(missing_ok=True)
    card_path(out).unlink(missing_ok=True)


def result_line(out: Path, card: Card) -> str:
    """Returns one line on the result of a training."""
    return (
        f"{out}: {card['test_accuracy_percent']:.2f} % of {card['n_test']} test images of {card['data']} "
        f"({len(card['classes'])} classes) in {card['wall_s']:.0f} s; its card is {card_path(out)}"
    )


def _other_owner(out: Path) -> Path | None:
    """Returns the other weights that the card describes, if any; an older card names them by their digest alone."""
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
