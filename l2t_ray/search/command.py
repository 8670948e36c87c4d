"""What `python -m l2t_ray.sweep` does with a file that has a `search:`: plan, status, launch, and the best file."""

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from l2t_ray.errors import InputError, count, say, wrapped
from l2t_ray.files import HOME, Lock
from l2t_ray.launch.check import inspections
from l2t_ray.launch.command import options, read, running
from l2t_ray.launch.live.table import print_view
from l2t_ray.launch.live.tally import Launched
from l2t_ray.launch.options import SLURM
from l2t_ray.launch.preparation import plan_launch
from l2t_ray.launch.session import interrupt
from l2t_ray.launch.sources import check_backend, check_with_sources, source_lines, train_first
from l2t_ray.launch.summary import print_plan
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.limits import safe_name
from l2t_ray.search.search import Searching
from l2t_ray.search.summary import print_summaries, to_json
from l2t_ray.sweepfile.read import Sweep

FIGURES = "search"  # below the sweep's report


def run_search(sweep: Sweep, arguments: argparse.Namespace) -> tuple[int, Path | None]:
    """Plans a search, prints its status, or trains its trials."""
    if arguments.backend == SLURM:
        law = "search must run with --backend ray or inline: its next trials depend on results"
        raise InputError(f"{arguments.file}: {law}; or train a file without it on Slurm")
    ledger = Ledger(sweep.name)
    ledger.check()
    lock, progress_file = Lock(HOME / sweep.name / "lock"), HOME / sweep.name / "progress.json"
    if arguments.plan:
        return _show_plan(Searching(sweep, write=False), ledger, arguments), None
    if arguments.check:
        check_with_sources(Searching(sweep, write=False).state(ledger, ledger.entries()), options(arguments))
        for line in inspections(sweep.runs.values(), Path(sweep.execution.data_dir)):
            print(line)
        print(f"{sweep.name}: checked: all images and weights can be read, every method trains")
        return 0, None
    if arguments.status:
        view = running(sweep.name, lock, progress_file)
        if view and not arguments.json:
            print_view(view, sys.stdout)
        return _show(Searching(sweep, write=False), as_json=arguments.json), None
    check_backend(sweep, arguments.backend)
    with lock:
        if sweep.sources:
            check_with_sources(Searching(sweep, write=False).state(ledger, ledger.entries()), options(arguments))
            sweep = train_first(sweep, ledger, options(arguments), lambda: read(arguments, arguments.where))
        searching = Searching(sweep, write=True)
        with ledger.writing(on_lost=interrupt):
            if len(ledger.spool):
                say(f"{len(ledger.spool)} results of an earlier launch are written to {ledger.shown_uri} first")
                ledger.flush()
            ledger.settle()
            entries = ledger.entries([safe_name(name) for name in (*searching.search.objectives, sweep.metric.name)])
            retry = arguments.retry_failed
            launched = searching.train(ledger, entries, options(arguments), progress_file, say, retry_failed=retry)
        if launched and launched.n_spooled:
            say(f"{launched.n_spooled} results wait in {ledger.spool.folder}; the next launch writes them first")
        if not all(summary.is_done for summary in searching.summaries()):
            say("interrupted; launch again to go on with the same studies")
            _show(searching, as_json=arguments.json, launched=launched)
            return 1, None
        best, lacking = (None, []) if arguments.where else searching.write_best()  # first: a picture may fail
        figures = searching.draw(Path("report", sweep.name, FIGURES), say)
    runs_best = best is not None and not lacking and searching.search.settings.run_best
    code = _show(searching, as_json=arguments.json and not runs_best, launched=launched, quietly=runs_best)
    say(f"figures of the studies: {Path('report', sweep.name, FIGURES)} ({len(figures)} files)")
    say(*lacking)
    if arguments.where:
        say("the best settings are written when all studies are searched, without --where")
    elif best is None:
        say("no best settings are written")
    elif runs_best:
        say(f"the best settings are in {best}, which is run now")
        return code, best
    else:
        held = "the other cells' best settings" if lacking else "result"
        say(f"{held}: {best}; run it: python -m l2t_ray.sweep {shlex.quote(str(best))}")
    return 1 if lacking else code, None


def _show_plan(searching: Searching, ledger: Ledger, arguments: argparse.Namespace) -> int:
    state = searching.state(ledger, ledger.entries())
    plan, training = plan_launch(state, fleet=arguments.fleet, backend=arguments.backend)
    say(*source_lines(searching.sweep, training))
    say(searching.announce(plan, len(state.to_train)))
    search = searching.search
    if arguments.json:
        studies = [{"cell": study.name, "space": [*map(str, study.space)]} for study in search.studies]
        final = {"file": str(search.best_file), "n_runs": searching.n_final_runs}
        print(json.dumps({"sweep": state.sweep.name, **asdict(plan), "studies": studies, "final": final}, indent=2))
        return 0
    print_plan(plan, None, sys.stdout)
    for space in dict.fromkeys("; ".join(map(str, study.space)) for study in search.studies):
        print(wrapped(f"space: {space}", sys.stdout))
    then = "then runs" if search.settings.run_best else "writes"
    print(wrapped(f"in the end: {then} {search.best_file}, {count(searching.n_final_runs, 'run')}", sys.stdout))
    return 0


def _show(searching: Searching, *, as_json: bool, launched: Launched | None = None, quietly: bool = False) -> int:
    summaries = searching.summaries()
    if as_json:
        content = to_json(summaries, searching.search, searching.sweep.name, searching.address)
        print(json.dumps({**content, "launch": asdict(launched) if launched else None}, indent=2))
    else:
        print_summaries(summaries, searching.search, sys.stderr if quietly else sys.stdout)
    incomplete = launched is not None and (launched.n_left or launched.n_spooled)
    return 1 if incomplete or any(summary.n_failed for summary in summaries) else 0
