"""`qurate demo`: a shop's log, a policy learned from it, and every policy measured on fresh customers.

Each seed is a shop of its own customers and a training of its own: its present recommender (popularity, with 10 %
uniform) writes a log; DQN and the myopic learner (gamma = 0; same network, data and tuning) train on it; both then learn
from the same number of further decisions online; every policy meets the same fresh customers. A control repeats the
online learning in the shop with all long-term effects switched off.
"""

import copy
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from qurate.baselines.registry import random_policy
from qurate.choosing.policy import ScoredPolicy
from qurate.environments.engine import BatchedEngine
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.errors import Code, MachineError
from qurate.evaluation.compare import Contender, Role, Runs, summarise
from qurate.evaluation.intervals import paired_t
from qurate.evaluation.report import Curve, Report
from qurate.evaluation.rollouts import Rollout, customers_seed, rollout
from qurate.evaluation.static_list import best_static
from qurate.events.readers import read_events
from qurate.events.validate import validate
from qurate.experiments.jobs import Job, Progress, report_progress, run_jobs
from qurate.experiments.policies import as_policy, fitted_policy, present_recommender, references, rewards_of
from qurate.files import write_file
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.outputs import WRITTEN, check_demo, written
from qurate.settings import from_flat
from qurate.settings import replace as replace_leaves
from qurate.training.in_environment import fresh_model, train_in_engine
from qurate.training.train import train
from qurate.types import Policy


class Size(NamedTuple):
    """How much is logged, learned and measured."""

    log_customers: int
    log_updates: int  # of the event models of dqn and myopic
    online_decisions: int  # of myopic and of DQN, each after learning from the log
    control_decisions: int
    update_every: int  # decisions per update online
    customers: int  # measured per policy and seed


DEMO = Size(600, 300, 40_000, 20_000, 100, 1_000)
PROOF = Size(6_000, 2_400, 500_000, 120_000, 100, 2_000)
"""What `make proof` runs: the claim stands or falls there."""

WINDOW = 20
LANES = 128
SETTINGS: dict[str, Any] = {
    "gamma": 0.97, "window": WINDOW, "batch_size": 256, "embedding_dim": 48, "hidden": 64, "lr": 2e-3, "id_embedding": False,
    "support_threshold": 0.1, "aux_weight": 0.3, "n_step": 4, "target_tau": 0.1, "later_weight": 0.1,
}  # fmt: skip
ONLINE: dict[str, Any] = {
    "epsilon_start": 0.1, "epsilon_end": 0.05, "epsilon_steps": 20_000, "aux_weight": 0.0,
    "support_threshold": 0.0, "replay_capacity": 400_000,
}  # fmt: skip
MYOPIC = {"gamma": 0.0}
LINEAR = {"form": "linear_later"}
"""The default where probabilities are logged; in the control, which has no log, it is asked for."""
CLASSICAL = {"form": "single", "loss": "huber", "target_tau": 1.0, "target_period": 200, "n_step": 1, "id_embedding": True}

ROLES: dict[str, Role] = {
    "random": "baseline", "static": "baseline", "popularity": "baseline", "item_knn": "baseline", "myopic_log": "baseline",
    "dqn_log": "baseline", "myopic_online": "baseline", "dqn_online": "candidate", "true_myopic": "reference",
    "far_sighted": "reference",
}  # fmt: skip
CONTROL_ROLES: dict[str, Role] = {
    "myopic_online": "baseline", "dqn_online": "candidate", "dqn_classical": "baseline", "true_myopic": "reference",
    "far_sighted": "reference",
}  # fmt: skip


class SeedResult(NamedTuple):
    """What one job brings back for one seed."""

    rollouts: dict[str, Rollout]
    curves: dict[str, list[tuple[float, float]]]
    steps: dict[str, int]


def demo(
    out: str | Path = "qurate-demo",
    seed: int = 0,
    progress: Progress | None = None,
    seeds: int = 5,
    size: Size = DEMO,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Runs the demonstration and returns the contract's demo JSON.

    Writes into `out`: log/ (an ordinary event log), dataset/, model/ (DQN of the first seed after learning online),
    report.html, report.json.

    Args:
        out: directory; an earlier demo there is replaced.
        seed: of the first shop; shop i has seed + i.
        progress: called with (what is done now, done, total).
        seeds: shops.
        size: how much is logged, learned and measured.
        force: replace what is there even if it is no demo.

    Raises:
        UserError: `out` is a file or holds something else. MachineError: it cannot be written.
    """
    began = time.monotonic()
    target = _clear(Path(out), force)
    wanted = [seed + i for i in range(seeds)]
    folders = [target if s == seed else target / f".seed-{s}" for s in wanted]
    jobs = [Job(serve_one_shop, (s, folder, size), stages=5) for s, folder in zip(wanted, folders)]
    jobs += [Job(switch_off, (s, size), stages=2) for s in wanted] + [Job(best_list, (seed, wanted, size), stages=1)]
    try:
        results = run_jobs(jobs, progress or (lambda what, done, total: None))
    finally:
        for folder in folders[1:]:
            shutil.rmtree(folder, ignore_errors=True)
    result, report = summarise_seeds(wanted, results[:seeds], results[seeds : 2 * seeds], results[-1])
    report.save_html(target / "report.html")
    result |= {
        "report": str(target / "report.html"), "model": str(target / "model"), "seconds": round(time.monotonic() - began, 1)
    }  # fmt: skip
    write_file(target / "report.json", msgspec.json.encode(result))
    written([target / "report.json"])
    return result


def summarise_seeds(
    seeds: list[int], main: list[SeedResult], control: list[SeedResult], static: SeedResult
) -> tuple[dict[str, Any], Report]:
    """The compare JSON with its control, and the report."""
    for seed, one in zip(seeds, main):
        one.rollouts["static"] = static.rollouts[str(seed)]
    main_runs, control_runs = _runs(main, ROLES), _runs(control, CONTROL_ROLES)
    result = summarise("shop", seeds, main_runs, subject="dqn_online")
    without = summarise("shop, strength 0", seeds, control_runs, subject="dqn_online")
    # the classical form stands beside; what the control asks is whether DQN and myopic agree
    agree = paired_t(_means(control_runs, "dqn_online"), _means(control_runs, "myopic_online"))
    result["control"] = without | {"dqn_minus_myopic": agree.to_dict()}
    curves: dict[str, Curve] = {
        name: {s: one.curves[name] for s, one in zip(seeds, main)} for name in ("myopic_online", "dqn_online") if name in main[0].curves
    }
    return result, Report(result, "qurate demo: a shop", notes(result), curves, main_runs)


def _means(runs: list[Runs], name: str) -> list[float]:
    return next(r for r in runs if r.contender.name == name).means()


def _clear(target: Path, force: bool) -> Path:
    check_demo(target, force)
    try:
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
        target.mkdir(parents=True)
        (target / WRITTEN).touch()
    except OSError as error:
        raise MachineError(
            "a directory that can be written", str(error), where=str(target), hint="choose another -o", code=Code.CANNOT_WRITE
        ) from None
    return target


def best_list(seed: int, seeds: list[int], size: Size) -> SeedResult:
    """The best static list, searched once on other customers (all seeds share the catalogue); rollouts by seed."""
    engine = make_engine("shop", window=WINDOW)
    policy = best_static(engine, random_policy(), customers_seed(seed, "bounds"))
    rollouts = {str(s): measure(engine, {"static": policy}, ROLES, s, size.customers)["static"] for s in seeds}
    report_progress("the best static list, searched on other customers")
    return SeedResult(rollouts, {}, {})


def serve_one_shop(seed: int, folder: Path, size: Size) -> SeedResult:
    """The whole road for one seed: log, validate, ingest, train, learn online, measure."""
    engine = make_engine("shop", window=WINDOW)
    present = present_recommender(engine, seed, size.log_customers)
    dataset = log_of_today(engine, present, seed, folder, size)
    report_progress(f"seed {seed}: a log of {dataset.manifest['counts']['decisions']:,} decisions, written, validated, ingested")
    data = str(folder / "dataset")
    dqn_log = train(data, seed=seed, steps=size.log_updates, **SETTINGS)
    myopic_log = without_later(dqn_log)
    report_progress(f"seed {seed}: myopic and DQN learned from the log")
    myopic_online = learn_online(myopic_log, engine, seed, size)
    report_progress(f"seed {seed}: myopic learned online")
    dqn_online = learn_online(dqn_log, engine, seed, size)
    report_progress(f"seed {seed}: DQN learned online")
    models = {"myopic_log": myopic_log, "dqn_log": dqn_log, "myopic_online": myopic_online, "dqn_online": dqn_online}
    policies: dict[str, Policy] = {
        "random": random_policy(), "popularity": ScoredPolicy(present.parts[0].scorer),
        "item_knn": fitted_policy("item_knn", dataset, engine),
        **{name: as_policy(model, engine, name) for name, model in models.items()},
        **{row.name: row.policy(seed) for row in references("shop", engine)},
    }  # fmt: skip
    rollouts = measure(engine, policies, ROLES, seed, size.customers)
    if not folder.name.startswith("."):
        dqn_online.save(folder / "model")
    report_progress(f"seed {seed}: {len(policies)} policies met {size.customers:,} customers each")
    curves = {name: [(p["step"], p["reward"]) for p in models[name].metrics["curve"]] for name in ("myopic_online", "dqn_online")}
    logged = int(dataset.manifest["splits"]["train"])
    steps = {name: logged + (size.online_decisions if name.endswith("online") else 0) for name in models}
    return SeedResult(rollouts, curves, steps)


def log_of_today(
    engine: BatchedEngine, present: Policy, seed: int, folder: Path, size: Size, rewards: dict[str, Any] | None = None
) -> Dataset:
    """What the present recommender did, as an ordinary log, and the dataset made from it; rewards: None = the engine's, per event."""
    log = folder / "log" / "events.csv"
    simulate(engine, present, size.log_customers, engine.max_steps, customers_seed(seed, "train"), log)
    events = read_events(log)
    checks = validate(events)
    if not checks["ok"]:
        raise MachineError(
            "a log that passes its own checks", str([c for c in checks["checks"] if not c["ok"]]), where=str(log), code=Code.INTERNAL
        )
    return build_dataset(events, rewards=rewards or rewards_of(engine), episode="user", churn_after="7d", out=folder / "dataset")


def without_later(model: Model) -> Model:
    """The model that `train --algorithm myopic` gives for the same log and seed: the same event models, and no `later`."""
    ranker = cast(NetworkRanker, model.ranker)
    network = copy.deepcopy(ranker.module)
    network.get_buffer("theta").zero_()
    own = NetworkRanker(cast(LinearLaterNetwork, network), ranker.item_features, columns=ranker.columns, n_types=ranker.n_types)
    return replace(model, ranker=own).with_provenance(algorithm="myopic", settings=replace_leaves(model.settings, **MYOPIC))


def learn_online(model: Model, engine: BatchedEngine, seed: int, size: Size) -> Model:
    """The model after further decisions with exploration, with customers of no log."""
    settings = replace_leaves(model.settings, **ONLINE, update_every=size.update_every)
    customers = customers_seed(seed, "online")
    return train_in_engine(model, engine, customers, size.online_decisions, settings=settings, lanes=LANES)


def measure(engine: BatchedEngine, policies: dict[str, Policy], roles: dict[str, Role], seed: int, customers: int) -> dict[str, Rollout]:
    """Every policy on the same customers, whom no training has met."""
    fresh = customers_seed(seed, "evaluate")
    return {
        name: rollout(engine, policy, fresh, customers, gamma=SETTINGS["gamma"], every_lane=roles[name] == "reference", trace=3)
        for name, policy in policies.items()
    }


def switch_off(seed: int, size: Size) -> SeedResult:
    """The control: the same learning online, from nothing, in a shop where nothing shown changes anything later."""
    engine = make_engine("shop", window=WINDOW, strength=0.0)
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "myopic_online": ("myopic", LINEAR | MYOPIC), "dqn_online": ("dqn", LINEAR), "dqn_classical": ("dqn", CLASSICAL),
    }  # fmt: skip
    policies: dict[str, Policy] = {}
    for name, (algorithm, change) in ways.items():
        settings = from_flat(SETTINGS | ONLINE | {"update_every": size.update_every} | change)
        model = fresh_model(engine, settings, algorithm, seed, "shop")
        learned = train_in_engine(model, engine, customers_seed(seed, "train"), size.control_decisions, lanes=LANES)
        policies[name] = as_policy(learned, engine, name)
    report_progress(f"seed {seed}: control, learned with long-term effects off")
    policies |= {row.name: row.policy(seed) for row in references("shop", engine)}
    rollouts = measure(engine, policies, CONTROL_ROLES, seed, size.customers)
    report_progress(f"seed {seed}: control, measured")
    return SeedResult(rollouts, {}, dict.fromkeys(ways, size.control_decisions))


def _runs(results: list[SeedResult], roles: dict[str, Role]) -> list[Runs]:
    def contender(name: str, role: Role) -> Contender:
        return Contender(name, lambda seed: random_policy(), role, max(r.steps.get(name, 0) for r in results))

    return [Runs(contender(name, role), [r.rollouts[name] for r in results]) for name, role in roles.items()]


SMALL = (
    "This run is small, so that it ends in a minute or two. What the learners reach with ten times the logged customers and twelve times "
    "the decisions stands in docs/proof.md (`make proof`). The static list was searched with some 300 rounds of simulated "
    "customers, far more than any learner here has met."
)


def notes(result: dict[str, Any]) -> list[str]:
    """Why the rows differ, and what the control says, in plain words with the figures of this run."""
    row, control = {p["name"]: p for p in result["policies"]}, result["control"]
    off, gap = {p["name"]: p["mean"] for p in control["policies"]}, control["dqn_minus_myopic"]
    interval = "" if gap["ci"][0] is None else f", 95 % interval {gap['ci'][0]:+.1f} to {gap['ci'][1]:+.1f}"
    return [
        "Why looking ahead can pay here: bargains of low quality are clicked and bought now and cost trust; a category shown "
        "again and again tires; customers who trust the shop stay longer and come back. A recommender that maximises the next "
        f"reward cannot see this: its customers stayed for {row['myopic_online']['decisions']:.1f} decisions in "
        f"{row['myopic_online']['visits']:.1f} visits, those of DQN for {row['dqn_online']['decisions']:.1f} in "
        f"{row['dqn_online']['visits']:.1f}.",
        f"Control, long-term effects switched off: DQN {off['dqn_online']:.1f}, myopic {off['myopic_online']:.1f} (difference "
        f"{gap['mean']:+.1f}{interval}), the classical form with one head, Huber loss, hard target updates and free item ids "
        f"{off['dqn_classical']:.1f}, true-myopic {off['true_myopic']:.1f}. Where nothing shown changes anything later, looking "
        "ahead must neither win nor lose.",
        *([SMALL] if row["dqn_online"]["steps_trained"] < PROOF.online_decisions else []),
        "Everything here is simulated: the parameters and their sources stand in docs/scenarios/shop.md. A figure from a "
        "simulator says what the method can do, not what your customers will do.",
    ]
