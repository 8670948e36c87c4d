"""Faults at random moments, and a sweep that is launched until it says that all is finished."""

import collections
import contextlib
import dataclasses
import os
import threading
import time
from pathlib import Path

from tests.chaos.audit import Audit, audit, undisturbed
from tests.chaos.world import World, freeze, hold_database, kill_tree, ledger_of, prepare, small_disk

DISK_MIB = 256
KILLS = ("trial", "node", "driver", "server", "everything")
OTHERS = ("hang", "locked", "disk")  # once a sweep each, beside the kills


@dataclasses.dataclass(frozen=True)
class Done:
    """What a sweep went through, and what it came to."""

    faults: collections.Counter
    codes: list[int]  # how its launches ended; negative where they were killed
    audit: Audit
    tracebacks: list[str]
    log: str
    seconds: float
    n_runs: int

    @property
    def n_kills(self):
        return sum(self.faults[kind] for kind in KILLS)


class Storm:
    """The faults of one world.

    Args:
        world: to be disturbed.
        dice: decides what and when.
        kinds: of kills and other faults that may happen.
        locked_s: how long the database is locked.
        pause_s: between two faults, at the most.
        say: told what happens.
        gate: steps that trainings may take for every kill, where they stand still.
    """

    def __init__(self, world, dice, *, kinds, locked_s, pause_s, say, gate=0):
        self.world, self.dice, self.say, self.locked_s, self.pause_s = world, dice, say, locked_s, pause_s
        self.faults, self.gate = collections.Counter(), gate
        self.kinds = [kind for kind in KILLS if kind in kinds]
        self.others = [kind for kind in OTHERS if kind in kinds]
        dice.shuffle(self.others)
        self._deck, self._threads = [], []

    def strike(self):
        """One fault, if what it wants is there."""
        if not self._deck:  # every kind, in a random order, again and again
            self._deck = self.dice.sample(self.kinds, len(self.kinds))
        pile = self.others if self.others and self.dice.random() < 0.3 else self._deck
        self.say(pile[-1])
        if getattr(self, pile[-1])():
            self.faults[pile.pop()] += 1

    def trial(self):
        workers = self.world.workers()
        if workers:
            kill_tree(self.dice.choice(workers))
        return bool(workers)

    def node(self):
        if self.world.has_nodes:
            self.world.lose_node()
            self._later(self.dice.uniform(0, 10), self.world.join_node)
            return True
        raylet = self.world.own_raylet()
        if raylet is not None:
            kill_tree(raylet)
        return raylet is not None

    def driver(self):
        self.world.kill_driver()
        return True

    def server(self):
        self.world.servers[-1].stop()
        time.sleep(self.dice.uniform(0, 10))
        self.world.servers[-1].start()
        return True

    def everything(self):
        self.join()
        self.world.kill_everything()
        self.world.restart()
        return True

    def disk(self):
        """Full for some seconds."""
        filler = self.world.folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as stream:
            while True:
                stream.write(bytes(1 << 16))
        time.sleep(self.dice.uniform(5, 15))
        filler.unlink()
        return True

    def locked(self):
        self._later(0, lambda: hold_database(self.world, self.locked_s))
        return True

    def hang(self):
        workers = self.world.workers()
        if workers:
            freeze(self.dice.choice(workers))
        return bool(workers)

    def join(self):
        """Waits for what was to happen later."""
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _later(self, seconds, what):
        def work():
            time.sleep(seconds)
            try:
                what()
            except Exception as error:  # the machine was killed meanwhile
                self.say(f"(not done: {error!r})")

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()


def allow(world, storm, n_kills):
    """Where trainings stand still, they may go on for a while after a kill, and to the end after the last one."""
    if world.steps is not None:
        n_done = sum(storm.faults[kind] for kind in KILLS)
        world.steps.allow(storm.gate * (n_done + 1) if n_done < n_kills or storm.others else None)


def weather(world, storm, n_kills, end):
    """Launches until all is finished, with so many kills on the way.

    Raises:
        AssertionError: if the time is over.
    """
    allow(world, storm, n_kills)
    while True:
        world.launch()
        while world.driver.poll() is None:
            assert time.monotonic() < end, f"not finished in time: {world.told()[-3000:]}"
            if sum(storm.faults[kind] for kind in KILLS) < n_kills or storm.others:
                _wait_for_a_moment(world, storm, end)
                if world.driver.poll() is None:
                    storm.strike()
                    allow(world, storm, n_kills)
            else:
                time.sleep(0.2)
        world.codes.append(world.driver.wait())
        if world.codes[-1] == 0:
            storm.join()
            return
        time.sleep(0.5)


def _wait_for_a_moment(world, storm, end):
    """Half of them are after the training has begun; the others may hit the launch's own beginning."""
    if storm.dice.random() < 0.5:
        while not world.workers() and world.driver.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
    stop = time.monotonic() + storm.dice.uniform(0, storm.pause_s)
    while time.monotonic() < stop and world.driver.poll() is None:
        time.sleep(0.1)


def sweep_in_a_storm(
    backend,
    n_kills,
    dice,
    *,
    nodes,
    size,
    end,
    say,
    data_dir,
    kinds=(*KILLS, *OTHERS),
    locked_s=60.0,
    pause_s=3.0,
    expected=None,
):
    """One sweep from its file to the audit of its ledger.

    Args:
        backend: where the ledger is.
        n_kills: on the way.
        dice: decides what and when.
        nodes: whether Ray's nodes are apart from the launch.
        size: of the sweep.
        end: of time.monotonic(), at the latest.
        say: told what happens.
        data_dir: of the data sets.
        kinds: of faults; those that the world has no place for are left out.
        locked_s: how long the database is locked.
        pause_s: between two faults, at the most.
        expected: what undisturbed runs come to, if it is known.

    Returns:
        What happened.
    """
    began, here = time.monotonic(), Path.cwd()
    with small_disk(DISK_MIB) as (folder, may_be_filled):
        prepare(folder, size, data_dir)
        os.chdir(folder)
        try:
            expected = expected or undisturbed("storm.yaml")
            (folder / "steps").unlink(missing_ok=True)
            absent = {*(() if may_be_filled else ("disk",)), *(() if "serve" in backend else ("server",))}
            with World(folder, backend, nodes=nodes, drowsy_s=size.drowsy_s) as world:
                given = {"locked_s": locked_s, "pause_s": pause_s, "gate": size.gate}
                storm = Storm(world, dice, kinds={*kinds} - absent, say=say, **given)
                try:
                    weather(world, storm, n_kills, end)
                    found = audit("storm.yaml", ledger_of(world), expected)
                finally:
                    storm.join()
                log = world.told()
        finally:
            os.chdir(here)
    tracebacks = [line for line in log.splitlines() if "Traceback" in line]
    return Done(storm.faults, world.codes, found, tracebacks, log, time.monotonic() - began, len(expected))
