"""The real logs of `make results`: where they lie, what an answer is worth, and what a reader should know of each.

Each is trained by default options. What was tried on validation splits before those defaults stood is in `TRIED` and is printed into
the page.
"""

from dataclasses import dataclass
from typing import Any

ALGORITHMS = ("dqn", "myopic")


@dataclass(frozen=True)
class Log:
    """One real log; its training is that of `qurate train DATASET` without options."""

    name: str
    file: str  # below QURATE_DATA
    what: str
    steps: int | None = None  # updates of each training, where a test wants few
    rewards: dict[str, Any] | None = None  # None: the defaults of mdp/rewards.py
    visits: int | None = None  # test visits ranked, drawn with seed 0; None = all
    notes: tuple[str, ...] = ()


LOGS: tuple[Log, ...] = (
    Log(
        "trivago_100k",
        "trivago_100k/sessions.parquet",
        "hotel search; a shown list of up to 25 hotels is re-ranked, the click on one of them is the reward",
        notes=(
            "HR@20 says little here: lists hold at most 25 hotels. MRR of the re-ranked list is the figure to read. DQN sees the "
            "place at which the site showed each hotel, its price there, and how the customer met it before; place is a confounder: "
            "customers click what stands first also because it stands first. One row is not given it.",
        ),
    ),
    Log(
        "globo_news",
        "globo_news/clicks.parquet",
        "news clicks",
        visits=20_000,
        notes=(
            "Most targets are articles that appear after the training period. Every row ranks the same shortlists of about 100 articles, "
            "with clicks up to the decision (docs/logs_of_choices.md); an answer on no list is a miss. The clock of the first "
            "click of a visit is the end of the visit before, so that its counters are old: `benchmarks/clocks.py` ranks the other clicks.",
        ),
    ),
    Log(
        "kuairand",
        "kuairand/like_hate_27k_core15.parquet",
        "short videos shown one at a time; reward .01 per second watched (at most 60), 1 for a like, -1 for a hide",
        rewards={"watch": {"weight": 0.01, "per": "value", "cap": 60}, "like": 1, "hide": -1},
        notes=(
            "Only liked or hidden rows were published: its rates are not population rates. A target is a video that the platform "
            "showed and the customer rewarded. Every row ranks the same shortlists of about 90 videos, with what customers did up to the "
            "decision (docs/logs_of_choices.md); a video on no list is a miss.",
        ),
    ),
    Log(
        "retailrocket_sessions",
        "retailrocket_sessions/retailrocket.parquet",
        "shop sessions as item sequences, no time",
        notes=("In 38 % of the test rows the answer stands earlier in the row, so that own items most recent first is hard to beat.",),
    ),
    Log(
        "movielens_small",
        "movielens_small/ratings.parquet",
        "film ratings with genres as item features; reward = the rating",
        notes=("Split by time: 91 % of the test targets are of customers who rated nothing in the training period.",),
    ),
)

TRIED: tuple[str, ...] = (
    "Few runs, no grid: each figure is one run of one seed on up to 3,000 validation targets (HR@20; trivago: MRR of the list), with the "
    "network of this page. Small differences mean nothing. Nothing was chosen on the test split, but RetailRocket's had been looked at "
    "with an earlier network.",
    "An earlier network without the term for repeating, trained for 300 to 900 updates, reached on the test split: trivago .411, "
    "RetailRocket .125, MovieLens .057, KuaiRand .005, Globo .001.",
    "The support: .3 (the paper's) against .01. Q within the support on kuairand .032 against .012, on movielens_small .104 against .089; "
    "on retailrocket_sessions .394 against .425.",
    "The discount, .9 against .5, DQN's Q: retailrocket_sessions .399 and .493 (myopic .512) after 1,000 updates; movielens_small .055 and "
    ".086 (myopic .093) after 1,500. Looking ahead costs agreement with the next choice; .5 was taken on every log.",
    "Rates and lengths: retailrocket_sessions at .005 and .01 after 2,500 updates: Q .540 and .535, behaviour head .636 and .638 (own "
    "items most recent first .682). trivago_100k: rates .005, .001, .0005: .420, .446, .450 (more updates at higher rates fell: 107,000 "
    "free vectors and 11,000 answers). kuairand 600 and 1,500 updates: behaviour head .039 and .061, Q within the support .032 and .039 "
    "(own items most recent first .034). movielens_small 1,500 and 3,000 updates: Q .086 and .092, behaviour head .126 both (item-kNN "
    ".108). globo_news: 200, 400 and 1,500 updates with clocks: .645, .648, .651 (15,000 choices within a visit; co-clicks .600).",
)
"""What was tried on the validation splits, as sentences of the page."""


def log_named(name: str) -> Log:
    """The log of that name.

    Raises:
        SystemExit: there is none.
    """
    for log in LOGS:
        if log.name == name:
            return log
    raise SystemExit(f"error: expected one of {', '.join(log.name for log in LOGS)}, got {name}, at --only")
