"""What MLflow would refuse, rewrite or cut: names with other characters, and long texts; how they are kept whole.

MLflow takes 250 characters of `[A-Za-z0-9_-./ ]` as the name of a metric or param, cuts a param's value after 6,000
characters and a tag's after 8,000.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping

NAME_CHARACTERS, PARAM_CHARACTERS, TAG_CHARACTERS = 250, 6000, 8000
REASON_CHARACTERS = 1000
WHOLE = "whole_texts.json"  # the artifact with every text that was cut: {"params": {name: text}, "tags": {name: text}}
CUT = " ... (cut; whole in whole_texts.json)"
UNIT = "_percent"


def safe_name(name: str) -> str:
    """The name under which MLflow holds a metric or param: the same if MLflow takes it, else distinct by a hash."""
    allowed = older_name(name)
    path = posixpath.normpath(name)  # MLflow may keep a metric as a file: two names must not be one path
    if allowed == name == path and not path.startswith((".", "/")) and len(name) <= NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    unit = UNIT if name.endswith(UNIT) else ""
    stem = allowed.removesuffix(unit).replace("/", "_")[: NAME_CHARACTERS - 20]
    return f"{stem}.{digest}{unit}".lstrip(".")


def older_name(name: str) -> str:
    """The name that versions before 0.2 wrote: unlike names could become the same."""
    return re.sub(r"[^\w\-./ ]", "_", name)


def cut(text: str, most: int) -> str:
    """The text, or its beginning with a mark that it was cut; at most `most` characters."""
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


def cut_tag(name: str, text: str) -> str:
    """The text of a tag, cut if it is too long; a reason must also fit a line of a table."""
    return cut(text, REASON_CHARACTERS if name == "reason" else TAG_CHARACTERS)


def whole_texts(params: Mapping[str, str], tags: Mapping[str, str]) -> str | None:
    """The artifact `WHOLE` of a run: every param and tag that `cut` shortens, as JSON; None if there is none."""
    long = {
        "params": {name: text for name, text in params.items() if len(text) > PARAM_CHARACTERS},
        "tags": {name: text for name, text in tags.items() if cut_tag(name, text) != text},
    }
    return json.dumps(long) if any(long.values()) else None
