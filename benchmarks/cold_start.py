"""New customers, new items, and tastes that switch: what each policy earns at first, and how long it takes to recover.

    python benchmarks/cold_start.py [--seeds 1 2 3 4 5] [--parts customers items rooms] [--table] [--quick]

Each seed of a part is some hundred lines of docs/cold_start.csv as soon as it is measured; seeds that stand there are not measured
again, so a run that was interrupted goes on. `--table` measures nothing. Both write the tables into docs/scenarios/cold_start.md.
`--quick` has runs too short to learn from, for a test; it needs files of its own, `--csv` and `--page`.
"""

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np
from cold_start_tables import page_with
from numpy.typing import NDArray

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine, World
from qurate.environments.scenarios.live import Live
from qurate.environments.scenarios.shop import Shop
from qurate.environments.worlds import references
from qurate.evaluation.rollouts import Rollout, customers_seed, items_at, rollout
from qurate.evaluation.static_list import StaticSearch, best_static
from qurate.experiments.bandits import BANDITS, LANES, bandit_in
from qurate.experiments.policies import as_policy, baseline_in, random_logs
from qurate.models.model import Model
from qurate.training.in_environment import fresh_model, train_in_engine
from qurate.training.later_online import form_for_world
from qurate.training.run import intra_op_threads
from qurate.training.train import usual_settings
from qurate.types import Availability, Feedback, IntArray, Policy

ROOT = Path(__file__).resolve().parents[1]
CSV, PAGE = ROOT / "docs/cold_start.csv", ROOT / "docs/scenarios/cold_start.md"
FIELDS = ("part", "policy", "seed", "measure", "value")
FITTED = ("popularity", "item_knn", "content")
REFERENCES = ("true_myopic", "far_sighted")
FIRST, LATER = 5, 30
"""Decisions that count as a customer's first ones; and up to which the later ones are compared with them."""
OPEN_ROOMS = 24
"""Candidates in `live`: all open rooms, as by default."""
HOUR = 3_600_000_000
Row = tuple[str, str, str, float]
"""Part, policy, measure, value."""


class Size(NamedTuple):
    """How much is learned and measured."""

    before: int  # decisions that a learner makes before the change
    after: int  # measured after it
    on: int  # the same of a learner that goes on in `drift`
    window: int  # decisions of a window
    warm: int  # decisions before the change where nothing is learned: until the mix of new and old customers is a steady one
    customers: int
    search: StaticSearch


FULL = Size(20_480, 20_480, 40_960, 2_048, 10_240, 2_000, StaticSearch())
QUICK = Size(1_280, 512, 1_024, 256, 512, 40, StaticSearch(customers=16, length=2, pool=3, explorers=64))


class Note(NamedTuple):
    """Sums over the customers of one step."""

    reward: float
    decisions: float
    shown: float  # decisions that showed a new item
    share: float  # sum over decisions of the share of new items among those that could be shown
    of_new: float  # reward of the decisions that showed a new item


class Watched(BatchedEngine):
    """An engine that notes every step, and changes once `change_after` decisions have been made.

    Args:
        is_new: of items and clocks, which broadcast: whether an item counts as new then.
        change: made before the decision after `change_after`.
    """

    def __init__(
        self,
        world: World,
        window: int,
        n_candidates: int | None = None,
        *,
        is_new: Callable[[IntArray, IntArray], NDArray[np.bool_]] | None = None,
        change_after: int = -1,
        change: Callable[["Watched"], None] | None = None,
    ) -> None:
        super().__init__(world, window, n_candidates=n_candidates)
        self.is_new, self.change_after, self.change = is_new, change_after, change
        self.made, self.notes = 0, list[Note]()

    def step(self, actions: IntArray) -> Feedback:
        """As the engine's."""
        if self.made == self.change_after and self.change is not None:
            self.change(self)
        shown = share = np.zeros(self.n)
        if self.is_new is not None:
            candidates, mask = self.observation.actions[:2]
            shown = self.is_new(items_at(candidates, actions), self.clock)
            share = (self.is_new(candidates, self.clock[:, None]) & (mask > 0)).sum(axis=1) / mask.sum(axis=1)
        feedback = super().step(actions)
        reward = feedback.reward.astype(np.float64)
        self.notes.append(Note(float(reward.sum()), self.n, float(shown.sum()), float(share.sum()), float((reward * shown).sum())))
        self.made += self.n
        return feedback


def noted(notes: Sequence[Note]) -> Note:
    """Their sum."""
    return Note(*np.sum(np.array(notes), axis=0).tolist())


def first_decisions(played: Rollout) -> dict[str, float]:
    """Reward of a customer's first decisions together (those who leave earlier have fewer), and per decision at first and later."""
    reward, present = played.step_reward, played.present
    return {
        "first": float(reward[:FIRST].sum() / present[0]),
        "per_decision_first": float(reward[:FIRST].sum() / present[:FIRST].sum()),
        "per_decision_later": float(reward[FIRST:LATER].sum() / max(present[FIRST:LATER].sum(), 1)),
    }


def exposure(notes: Sequence[Note]) -> dict[str, float]:
    """Share of the decisions that show a new item over the share of new items among those that could be shown (1 = as chance does);
    mean reward of these decisions, of the others, and of all. NaN where there is none."""
    s = noted(notes)

    def mean(total: float, n: float) -> float:
        return total / n if n else float("nan")

    return {
        "exposure": mean(s.shown, s.share),
        "reward_new": mean(s.of_new, s.shown),
        "reward_others": mean(s.reward - s.of_new, s.decisions - s.shown),
        "reward_all": mean(s.reward, s.decisions),
    }


def play(engine: Watched, policy: Policy, seed: int, decisions: int) -> None:
    """Customers that no policy was fitted on meet `policy`, which learns nothing."""
    observation, rng = engine.reset(customers_seed(seed, "evaluate"), LANES), np.random.default_rng([seed, 11])
    for _ in range(decisions // LANES):
        observation = engine.step(policy.act(observation, rng)[0]).obs


def learned(engine: Watched, algorithm: str, seed: int, size: Size, after: int) -> Model:
    """The model after `size.before` decisions; in `engine` it goes on learning for `after` more."""
    settings = form_for_world(usual_settings(algorithm), algorithm, {}, engine.n_items, bool(engine.candidate_columns))
    model = fresh_model(engine, settings, algorithm, seed, "watched")
    first = train_in_engine(model, engine, seed, size.before, settings=settings, resumable=True)
    if after:
        train_in_engine(first, engine, seed, size.before + after, settings=settings, saved=first.checkpoint)
    return first


def fixed_policies(engine: BatchedEngine, seed: int, size: Size) -> dict[str, Policy]:
    """The policies that are fitted without deep learning, in `engine`, on customers that they are not measured on."""
    log = random_logs(engine)
    out: dict[str, Policy] = {"random": random_policy()}
    out |= {name: baseline_in(name, engine, seed, log) for name in FITTED}
    out["static"] = best_static(engine, random_policy(), customers_seed(seed, "bounds"), size.search)
    return out | {name: bandit_in(name, engine, seed, size.before) for name in BANDITS}


def customers(seed: int, size: Size) -> Iterator[Row]:
    """Parts `users` and `drift`, both in `shop`: they share what is trained before the switch."""
    window = usual_settings("dqn").window

    def watched(change_after: int) -> Watched:
        return Watched(Shop(), window, change_after=change_after, change=lambda engine: engine.world.switch_now())  # type: ignore[attr-defined]

    plain = BatchedEngine(Shop(), window)
    policies = fixed_policies(plain, seed, size)
    engine = watched(size.before)
    policies["myopic"] = as_policy(learned(watched(-1), "myopic", seed, size, 0), plain, "myopic")
    policies["dqn"] = as_policy(learned(engine, "dqn", seed, size, size.on), plain, "dqn")
    yield from _windows("dqn+", engine, size.window, size.on)
    for name in BANDITS:
        engine = watched(size.before)
        bandit_in(name, engine, seed, size.before + size.on)
        yield from _windows(f"{name}+", engine, size.window, size.on)
    for name in (*policies, *REFERENCES):
        reference = name in REFERENCES
        own = references("shop")[name](plain) if reference else policies[name]
        met = rollout(plain, own, customers_seed(seed, "evaluate"), size.customers, max_decisions=LATER, every_lane=reference)
        yield from (("users", name, measure, value) for measure, value in first_decisions(met).items())
        engine = watched(size.warm)
        play(engine, references("shop")[name](engine) if reference else own, seed, size.warm + size.after)
        yield from _windows(name, engine, size.window, size.after)


def _windows(policy: str, engine: Watched, window: int, after: int) -> Iterator[Row]:
    """Reward per decision of the windows before and after the change; window 0 is the first of the `after` decisions after it."""
    steps, change = window // LANES, engine.change_after // LANES
    for i in range(-min(4, change // steps), after // window):
        part = noted(engine.notes[change + i * steps : change + (i + 1) * steps])
        yield "drift", policy, f"window {i}", part.reward / part.decisions


def items(seed: int, size: Size) -> Iterator[Row]:
    """Part `items`: a fifth of the products of `shop` come after the policies have learned."""
    window, world = usual_settings("dqn").window, Shop()
    late = np.zeros(len(world.item_ids) + 1, bool)
    late[1 + np.random.default_rng([seed, 21]).permutation(len(world.item_ids))[: len(world.item_ids) // 5]] = True
    world.availability = closed(world.availability, late)

    def arrive(engine: Watched) -> None:
        engine.availability = Availability.always(engine.n_items)

    def watched(change_after: int) -> Watched:
        return Watched(world, window, is_new=lambda items, clock: late[items], change_after=change_after, change=arrive)

    def rows(name: str, engine: Watched) -> Iterator[Row]:
        came, steps = engine.change_after // LANES, size.window // LANES
        for when, notes in (("", engine.notes[came : came + steps]), ("_end", engine.notes[-steps:])):
            yield from (("items", name, measure + when, value) for measure, value in exposure(notes).items())
        before = noted(engine.notes[max(came - 4 * steps, 0) : came])
        yield "items", name, "reward_before", before.reward / before.decisions

    plain = BatchedEngine(world, window)
    policies = fixed_policies(plain, seed, size)
    engine = watched(size.before)
    policies["dqn"] = as_policy(learned(engine, "dqn", seed, size, size.after // 2), plain, "dqn")
    yield from rows("dqn+", engine)
    for name in BANDITS:
        engine = watched(size.before)
        bandit_in(name, engine, seed, size.before + size.after // 2)
        yield from rows(f"{name}+", engine)
    for name in (*policies, *REFERENCES):
        engine = watched(size.warm)
        play(engine, references("shop")[name](engine) if name in REFERENCES else policies[name], seed, size.warm + size.after // 2)
        yield from rows(name, engine)


def rooms(seed: int, size: Size) -> Iterator[Row]:
    """Part `rooms`: half of the rooms of `live` are closed while the policies learn; their first hour is measured when all open."""
    window, taught, full = usual_settings("dqn").window, Live(), Live()
    late = np.zeros(len(full.item_ids) + 1, bool)
    late[1 + np.random.default_rng([seed, 22]).permutation(len(full.item_ids))[: len(full.item_ids) // 2]] = True
    taught.availability = closed(taught.availability, late)
    since = full.availability.since

    def is_young(items: IntArray, clock: IntArray) -> NDArray[np.bool_]:
        young: NDArray[np.bool_] = late[items] & (clock - np.where(items > 0, since[items], 0) < HOUR)
        return young

    half = Watched(taught, window, OPEN_ROOMS)
    policies = fixed_policies(half, seed, size)
    policies["dqn"] = as_policy(learned(half, "dqn", seed, size, 0), half, "dqn")
    for name in (*policies, *REFERENCES):
        engine = Watched(full, window, OPEN_ROOMS, is_new=is_young)
        play(engine, references("live")[name](engine) if name in REFERENCES else policies[name], seed, size.warm + size.after)
        yield from (("rooms", name, measure, value) for measure, value in exposure(engine.notes).items())


def closed(availability: Availability, late: NDArray[np.bool_]) -> Availability:
    """The same without the items where `late` [N + 1]: they end when they begin."""
    return Availability(availability.since, np.where(late, availability.since, availability.until))


PARTS: dict[str, Callable[[int, Size], Iterator[Row]]] = {"customers": customers, "items": items, "rooms": rooms}
WRITES = {"customers": "users", "items": "items", "rooms": "rooms"}
"""A part whose lines stand in the file has been measured."""


def lines(file: Path) -> list[dict[str, str]]:
    """What has been measured."""
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def add(file: Path, seed: int, rows: Sequence[Row]) -> None:
    """Appends a seed's lines, all at once."""
    fresh = not file.is_file()
    with file.open("a", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        if fresh:
            writer.writerow(FIELDS)
        writer.writerows((part, policy, seed, measure, f"{value:.5g}") for part, policy, measure, value in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--csv", type=Path, default=CSV)
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args(arguments)
    if asked.quick and (asked.csv == CSV or asked.page == PAGE):
        parser.error("--quick needs --csv and --page: its figures are not for the page of the documentation")
    intra_op_threads(1)
    size = QUICK if asked.quick else FULL
    done = {(line["part"], int(line["seed"])) for line in lines(asked.csv)}
    for seed in asked.seeds:
        for part in asked.parts:
            if asked.table or (WRITES[part], seed) in done:
                continue
            began = time.process_time()
            rows = list(PARTS[part](seed, size))
            add(asked.csv, seed, rows)
            print(f"{part}, seed {seed}: {len(rows)} lines after {time.process_time() - began:.0f} s", flush=True)
    text = page_with(asked.page.read_text(encoding="utf-8"), lines(asked.csv), size.window)
    asked.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
