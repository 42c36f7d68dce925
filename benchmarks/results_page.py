"""docs/results.md from the figures of `results.py`: tables, captions and, in words, what won."""

from collections.abc import Mapping
from typing import Any

from results_logs import TRIED

LABELS = {
    "q": "DQN, ranked by Q",
    "q_without_place": "DQN, ranked by Q, the place in the list not known",
    "q_in_support": "DQN, Q within the support of the behaviour head",
    "behaviour_times_q": "DQN, log pi_b + log Q",
    "behaviour": "DQN's behaviour head (cross-entropy, not Q-learning)",
    "myopic": "myopic (gamma = 0), ranked as DQN is",
    "popularity": "popularity",
    "popularity_1d": "popularity, halved every day",
    "item_knn": "item-kNN",
    "recent": "own items most recent first (3), then session-kNN",
    "content": "content",
    "count_15m": "events of the last minutes (half-life 15 minutes)",
    "count_1h": "events of the last hour (half-life 1 hour)",
    "co_clicks_1h": "moves from the last item (half-life 1 hour)",
    "site_order": "the site's own order",
    "last_touched": "last touched first, else the site's order",
}
MRR_OF_LIST = "MRR of the list"
LEARNED_BY_TD = ("q", "q_without_place", "q_in_support", "behaviour_times_q")
KINDS = {
    "organic": "organic: it says what customers chose, not what was shown",
    "exposure": "exposure: it says what was shown, without probabilities",
    "logged": "logged: what was shown, with probabilities",
}

Entry = Mapping[str, Any]


def page(results: Mapping[str, Entry], k: int) -> str:
    """The whole page.

    Args:
        results: log name to its entry of results.json.
        k: cut of the metrics.
    """
    parts = [_head(k), *(_summary(results, k) if results else ["No log has been run yet."])]
    for entry in results.values():
        parts += _section(entry, k)
    if TRIED:
        parts += ["## What was tried", *(f"* {line}" for line in TRIED)]
    return "\n".join(parts).rstrip() + "\n"


def _head(k: int) -> str:
    return f"""# Results on real logs

Made by `make results` (resumable; figures also in [results.json](results.json)). Every figure ranks what customers chose in the
held-out last part of the log among the whole catalogue (trivago: among the list that was shown; logs whose catalogue turns over:
among the shortlist of the moment, the same for every row), full ranking, ties broken at random in expectation.
**It is agreement with what was chosen, not value**: a policy that earns more by showing something else scores lower here.
Value is measured on simulated customers (README) or estimated from a log with probabilities.

* HR@{k}, NDCG@{k}, MRR@{k} with 95 % intervals: bootstrap over users, nested in the training seeds (baselines have no seed).
* The scores of the same DQN are kept apart: Q alone, Q within the support of the behaviour head (BCQ), log pi_b + log Q, and that head
  pi_b itself, which is trained by cross-entropy. "First choice" says how often a score's first item equals the behaviour head's: near 1,
  Q adds nothing.
* Where rewards differ, value@{k} counts each hit by the reward it earned, and return@{k} by that and the discounted rewards that
  followed in the log.
* Myopic is the same network, data, updates and settings with gamma = 0.
* "Missed": share of targets that could not be ranked (items that did not exist, or were never seen, in training). They count as 0 in every
  row; "HR open" is HR@{k} among the others.
* Every model is one of `qurate train DATASET` without options (myopic: `--algorithm myopic`). The rules that set sizes, passes and rates
  by the log (docs/logs_of_choices.md) were made on validation splits, from few runs ("What was tried"). Each log's figures carry the
  digest of the learning code that made them in results.json.
* Known recommenders (ALS, BPR, EASE, GRU4Rec, SASRec and the rules), each tuned, stand beside the same DQN in [rivals.md](rivals.md).
"""


def _summary(results: Mapping[str, Entry], k: int) -> list[str]:
    """One line per log: the learner beside the best row."""
    metric = f"NDCG@{k}"
    out = [
        "## In short",
        "",
        "| log | kind | DQN (Q) | Q in support | log pi_b + log Q | myopic | best rule | DQN minus it, paired | best row | in words |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in results.items():
        metric = headline(entry, k)
        rows = _rows(entry)
        best = _best(rows, metric)
        words = verdict(rows, metric, entry["ranking"]["lift"])
        figure = f"{rows[best][metric]['mean']:.4f} {LABELS[best]}"
        row = [f"{rows[by][metric]['mean']:.4f}" if by in rows else "" for by in ("q", "q_in_support", "behaviour_times_q", "myopic")]
        lift = entry["ranking"]["lift"]
        rule = f"{rows[lift['over']][metric]['mean']:.4f} {LABELS[lift['over']]}"
        out.append(f"| {name} | {entry['kind']} | {metric} {' | '.join(row)} | {rule} | {_interval(lift)} | {figure} | {words} |")
    return [*out, ""]


def headline(entry: Entry, k: int) -> str:
    """The metric to read: MRR of the whole list where lists are re-ranked, NDCG@k elsewhere."""
    return "MRR" if entry["orders_of_all_lists"] else f"NDCG@{k}"


def _rows(entry: Entry) -> dict[str, Entry]:
    rows = {**entry["ranking"]["by_score"], **entry["ranking"]["baselines"]}
    return rows


def _best(rows: Mapping[str, Entry], metric: str) -> str:
    return max(rows, key=lambda name: float(rows[name][metric]["mean"]))


def verdict(rows: Mapping[str, Entry], metric: str, lift: Entry | None = None) -> str:
    """Which row wins, in words; "wins" needs intervals that do not overlap, or a paired difference (`lift`) that excludes 0."""
    rivals = {name: row for name, row in rows.items() if name not in LEARNED_BY_TD}
    rival, mine = _best(rivals, metric), _best({name: rows[name] for name in LEARNED_BY_TD if name in rows}, metric)
    (low, high), (rival_low, rival_high) = rows[mine][metric]["ci"], rivals[rival][metric]["ci"]
    paired = lift is not None and lift["over"] == rival and lift["metric"] == metric and lift["ci"][1] < 0
    if rival_low > high or paired:
        return f"**{LABELS[rival]} wins over Q**"
    if low > rival_high:
        return f"{LABELS[mine]} wins over every other row"
    return f"not enough evidence between {LABELS[mine]} and {LABELS[rival]}"


def _section(entry: Entry, k: int) -> list[str]:
    ranking, rows, metric = entry["ranking"], _rows(entry), headline(entry, k)
    decisions = entry["decisions"]
    runs = list(entry["training"].values())
    seconds = [run["seconds"] for run in runs]
    rewards = ", ".join(f"{name} {_reward(reward)}" for name, reward in entry["rewards"].items())
    visits = f"{entry['key']['visits']:,} test visits drawn with seed 0" if entry["key"]["visits"] else "all test visits"
    found = 1 - ranking["missed"]
    differ = len(entry["rewards"]) > 1 or any(isinstance(one, Mapping) and one.get("per") == "value" for one in entry["rewards"].values())
    shown = [f"HR@{k}", f"NDCG@{k}", f"MRR@{k}", *(["MRR"] if metric == "MRR" else [])]
    shown += [f"value@{k}", f"return@{k}"] if differ else []
    out = [
        f"## {entry['log']}",
        "",
        f"{entry['what'][:1].upper() + entry['what'][1:]}. Kind: {KINDS[entry['kind']]}.",
        f"{entry['rows']:,} rows, {entry['users']:,} users, {entry['items']:,} items.",
        f"Source `{entry['source']}`, sha256 `{entry['key']['sha256']}`.",
        f"Decisions: {decisions['train']:,} train, {decisions['valid']:,} valid, {decisions['test']:,} test. Rewards: {rewards}. "
        f"Episodes: {entry['episode']}.",
        f"Targets: {ranking['n']:,} of {ranking['users']:,} users ({visits}), {ranking['candidates']:,.0f} candidates on average, "
        f"{ranking['missed']:.1%} missed.",
        f"Training: {runs[0]['steps']:,} updates, {entry['seeds']} seeds; "
        f"{min(seconds):.0f} to {max(seconds):.0f} s each. Measured with version {entry['qurate']}.",
        "",
        f"Caption: {ranking['caption']}.",
        "",
        f"| row | {' | '.join(MRR_OF_LIST if one == 'MRR' else one for one in shown)} | HR open | first choice = behaviour's |",
        "|---" * (len(shown) + 3) + "|",
    ]
    best = _best(rows, metric)
    for name, row in rows.items():
        figures = [_interval(row[m]) for m in shown]
        hit = f"{row[f'HR@{k}']['mean'] / found:.4f}" if found > 0 else "-"
        same = f"{row['first_choice_as_behaviour']:.0%}" if "first_choice_as_behaviour" in row else "-"
        label = f"**{LABELS[name]}**" if name == best else LABELS[name]
        out.append(f"| {label} | {' | '.join(figures)} | {hit} | {same} |")
    lift = ranking["lift"]
    mine = "Q" if ranking["main"] == "q" else LABELS[ranking["main"]]
    paired = f"Paired by user, {mine} minus {LABELS[lift['over']]}: {lift['metric']} {_interval(lift)}. "
    out += ["", f"By {metric}: {verdict(rows, metric, lift)}. {paired}{against_myopic(rows, ranking['main'], metric)}"]
    if entry["orders_of_all_lists"]:
        orders = entry["orders_of_all_lists"]
        site, touched = (rows[row]["MRR"]["mean"] for row in ("site_order", "last_touched"))
        out += [
            "",
            f"Over all {orders['n']:,.0f} clickouts of the log (no training, no split) the site's order has MRR {orders['site_order']:.3f} "
            f"and last touched first {orders['last_touched']:.3f}; on the test split they are {site:.3f} and {touched:.3f}.",
        ]
    return [*out, *(f"\n{note}" for note in entry["notes"]), ""]


def against_myopic(rows: Mapping[str, Entry], main: str, metric: str) -> str:
    """DQN beside myopic, both ranked by the same score, in words."""
    (low, high), (their_low, their_high) = rows[main][metric]["ci"], rows["myopic"][metric]["ci"]
    if low > their_high:
        return "DQN agrees more with what was chosen than myopic."
    if their_low > high:
        return "Myopic agrees more with what was chosen than DQN."
    return "DQN and myopic agree within the intervals."


def _interval(figure: Entry) -> str:
    low, high = figure["ci"]
    return f"{figure['mean']:.4f} ({low:.4f} to {high:.4f})" if low is not None else f"{figure['mean']:.4f}"


def _reward(reward: Any) -> str:
    if not isinstance(reward, Mapping):
        return f"{reward:g}"
    cap = f", at most {reward['cap']:g}" if "cap" in reward else ""
    return f"{reward['weight']:g}" + (f" per unit of value{cap}" if reward.get("per") == "value" else "")
