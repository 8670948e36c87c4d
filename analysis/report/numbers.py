"""The numbers for programs: what `--json` prints, and the tidy tables of cells and comparisons."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.report.answer import answer
from analysis.report.evidence import Evidence
from analysis.results.cells import Cell, Condition
from analysis.results.comparison import Comparison, Verdict, verdicts
from analysis.results.launches import launch_rows
from analysis.results.overall import Overall
from analysis.results.published import READINGS, Reproduction, load_claims
from analysis.results.ranking import Ranking
from analysis.results.runs import Gap
from analysis.results.tuned import Tunings
from l2t_ray.statistics.effect import Estimate

Row = dict[str, Any]


def summary_json(evidence: Evidence) -> Row:
    """Everything that the tables show, unrounded, as plain values without nan."""
    results = evidence.results
    found = {
        **missing_json(evidence),
        "question": _asked(evidence),
        "answer": answer(evidence),
        "overall": [_overall(item) for item in evidence.overall],
        "ranking": ranking_json(evidence.ranking) if evidence.ranking else None,
        "n_spared": sum(len(item.seeds) for item in evidence.spared),
        "cells": cell_rows(evidence.cells, values=True),
        "comparisons": _comparisons(evidence.comparisons),
        "all_pairs": comparison_rows(evidence.all_pairs),
        "minority": cell_rows(evidence.minority, values=True),
        "minority_comparisons": _comparisons(evidence.minority_comparisons),
        **tuned_json(evidence.tunings),
        "designs": {sweep: design.to_json() for sweep, design in evidence.designs.items()},
        "thesis": [_reproduction(row) for row in evidence.reproductions],
        "thesis_claims": [
            {**asdict(claim), "claims_significance": claim.claims_significance, "holds": claim.holds(READINGS[0])}
            for claim in load_claims()
        ],
        "launches": launch_rows(results.launches),
        "notices": list(results.notices),
    }
    return {name: _without_nan(value) for name, value in found.items()}


def _without_nan(value: Any) -> Any:
    """A value of JSON with null for every number that does not exist: paired without common seeds, or too large."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _asked(evidence: Evidence) -> Row:
    row = asdict(evidence.question)
    if evidence.is_transfer:
        del row["lower_is_better"]
    else:
        row["factors"] = asdict(evidence.cells[0].condition.factors)
    return row


def missing_json(evidence: Evidence) -> Row:
    """The wanted runs without a result: what `--missing --json` prints."""
    results = evidence.results
    return {
        "sweeps": list(results.sweeps),
        "n_wanted": len(results.wanted),
        "n_finished": len(results.runs),
        "missing": [_gap(gap) for gap in evidence.gaps],
    }


def ranking_json(ranking: Ranking) -> Row:
    """All methods by their average rank over cells."""
    return {
        "average_ranks": dict(zip(ranking.arms, ranking.ranks.means, strict=True)),
        "cells": [dict(zip(("data", "samples_per_class"), place, strict=True)) for place in ranking.places],
        "rank_1_is": "lowest" if ranking.is_lowest_first else "highest",
        "friedman_chi_squared": ranking.ranks.statistic,
        "friedman_p": ranking.ranks.p,
        "alpha": ranking.alpha,
        "critical_difference": ranking.ranks.critical_difference,
        "methods_left_out": list(ranking.arms_left_out),
        "cells_left_out": [list(place) for place in ranking.places_left_out],
    }


def tuned_json(tunings: Tunings) -> Row:
    """Methods at own and at best settings, as `tuned` and `gains`; empty where nothing was tuned."""
    if not tunings.tunings:
        return {}
    tuned = [
        {**comparison_rows([item.comparison])[0], "settings": {name: [*pair] for name, pair in item.settings.items()}}
        for item in tunings.tunings
        if item.comparison is not None
    ]
    gains = [
        {
            "own": comparison_rows([item.own])[0], "tuned": comparison_rows([item.tuned])[0],
            "change": asdict(item.change), "change_p": item.test.p, "change_p_holm": item.p_holm,
        }
        for item in tunings.gains
    ]  # fmt: skip
    return {"tuned": tuned, "gains": gains}


def cell_rows(cells: Sequence[Cell], *, values: bool = False) -> list[Row]:
    """A row for each cell; `values` adds the value of every seed."""
    rows = []
    for cell in cells:
        mean = cell.mean
        row = {
            **_place(cell.condition), "method": cell.method, "n": mean.n, "n_wanted": cell.n_wanted, "mean": mean.mean,
            "sd": mean.sd, "half_width_95": mean.half_width,
        }  # fmt: skip
        if values:
            row["values"] = {str(seed): value for seed, value in cell.values.items()}
        rows.append(row)
    return rows


def comparison_rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """A row for each comparison."""
    rows = []
    for item in comparisons:
        a12 = item.a12 if item.has_values else None
        rows.append({
            **_place(item.condition), "a": item.a.arm, "b": item.b.arm, "n_a": item.a.mean.n, "n_b": item.b.mean.n,
            "difference": item.difference, "u": item.test.statistic, "p": item.test.p, "p_method": item.test.method,
            "decided_by": item.deciding.test,
            "p_deciding": item.deciding.p,
            "p_adjusted": item.decision and item.decision.p_adjusted, "p_holm": item.p_holm, "p_bh": item.p_bh,
            "a12": a12 and a12.value, "a12_low": a12 and a12.low, "a12_high": a12 and a12.high,
        })  # fmt: skip
    return rows


def _overall(item: Overall) -> Row:
    return {
        "a": item.arm, "b": item.base, "n_cells": len(item.comparisons), "n_left_out": item.n_left_out,
        "difference": asdict(item.difference), "a12": asdict(item.a12), "van_elteren": asdict(item.test),
        "p_holm": item.p_holm,
    }  # fmt: skip


def _comparisons(comparisons: Sequence[Comparison]) -> list[Row]:
    return [_comparison(item, verdict) for item, verdict in zip(comparisons, verdicts(comparisons), strict=True)]


def _comparison(item: Comparison, verdict: Verdict) -> Row:
    row: Row = {
        **_place(item.condition),
        "a": item.a.arm,
        "b": item.b.arm,
        "verdict": verdict,
        "difference": item.difference,
        "mann_whitney": asdict(item.test),
        "p_holm": item.p_holm,
        "p_benjamini_hochberg": item.p_bh,
        "decided_by": item.deciding.test,
        "n_family": item.n_family,
        "alpha": item.alpha,
        "declared_by": item.declared_by or None,
        "decision": asdict(item.decision) if item.decision else None,
    }
    if item.has_values:
        estimates: dict[str, Estimate] = {
            "mean_difference": item.mean_difference, "paired_difference": item.paired_difference,
            "hodges_lehmann": item.shift, "a12": item.a12,
            "rank_biserial": item.rank_biserial,
        }  # fmt: skip
        row.update({name: asdict(estimate) for name, estimate in estimates.items()})
        findings = {"wilcoxon": item.wilcoxon, "brunner_munzel": item.brunner_munzel, "equivalence": item.equivalence}
        row.update({name: asdict(finding) for name, finding in findings.items()})
        row["shown_within"] = item.shown_within
        row["paired_superiority"] = asdict(item.paired_superiority) if item.paired_superiority else None
        row["needed_seeds"] = item.needed_in(1)
        row["needed_seeds_in_family"] = item.needed_in(item.n_family)
    return row


def _reproduction(row: Reproduction) -> Row:
    return {
        **_place(row.cell.condition),
        "method": row.cell.method,
        "n": row.cell.mean.n,
        "mean": row.cell.mean.mean,
        "published_mean": row.published.mean,
        "published_plus_minus": row.published.plus_minus,
        "welch_p": row.p,
        "equivalence_p": row.p_equivalent,
        "beyond_margin_p": row.p_beyond,
        "welch_p_holm": row.p_holm,
        "equivalence_p_holm": row.p_equivalent_holm,
        "beyond_margin_p_holm": row.p_beyond_holm,
        "margin": row.margin,
        "shown_within": row.shown_within,
        "verdict": row.verdict,
    }


def _place(condition: Condition) -> Row:
    return {"data": condition.data, "samples_per_class": condition.samples_per_class, "variant": condition.variant}


def _gap(gap: Gap) -> Row:
    run = gap.wanted
    return {"key": run.key, "cell": run.cell, "seed": run.seed, "state": gap.outcome, "reason": gap.reason}
