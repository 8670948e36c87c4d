"""How a sweep looks in MLflow's pages: the table of its trainings, without leases and manifests, with few columns.

MLflow opens the address of a shared view with the state that a tag of the experiment holds
(`mlflow.sharedViewState.KEY`, as its button "share view" writes it).
"""

import getpass
import json
from collections.abc import Iterable, Mapping

KEY = "l2t"
TAG = f"mlflow.sharedViewState.{KEY}"
KIND, PLAIN = "mlflow.experimentKind", "custom_model_development"  # else MLflow may open with pages for language models
NOTE, USER = "mlflow.note.content", "mlflow.user"
FILTER = "tags.`l2t.kind` = 'run'"
COLUMNS = (
    "params.`method`",
    "params.`data.name`",
    "params.`data.samples_per_class`",
    "params.`seed`",
    "metrics.`test_accuracy_percent`",
)
STATE = {
    "searchFilter": FILTER,
    "orderByKey": "attributes.`Created`",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
    "selectedColumns": list(COLUMNS),
    "runsHiddenMode": "FIRST_10_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
}


def state_of(settings: Iterable[str], metric: str) -> str:
    """Returns the view of a sweep whose trainer is the user's own.

    Args:
        settings: the names of those that vary, without `settings.`.
        metric: that counts, as the ledger names it.
    """
    columns = [*(f"params.`settings.{name}`" for name in settings), "params.`seed`", f"metrics.`{metric}`"]
    return json.dumps({**STATE, "selectedColumns": columns})


def experiment_tags(sweep: str) -> dict[str, str]:
    """Returns the tags that a sweep's experiment gets when it is created."""
    about = f"The trainings of the sweep {sweep}. `l2t report {sweep}` compares them; `l2t status FILE` lists them."
    return {KIND: PLAIN, TAG: json.dumps(STATE), NOTE: about}


def run_tags(outcome: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags in which MLflow's pages look for a run's user and description."""
    reason = tags.get("reason", "")
    return {USER: _user(), NOTE: f"{outcome}: {reason}" if reason else f"{outcome}, {tags.get('cell', '')}"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return ""
