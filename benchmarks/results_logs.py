"""The real logs of `make results`: where they lie, what an answer is worth, and how DQN and myopic are trained on each.

Settings were chosen on the validation split alone (retailrocket_sessions has none: 5,000 of its training sessions stood in, and the
last tenth of them for what version 0.1.0 tried), the same for DQN and myopic; what was tried stands in `TRIED` and is
printed into the page.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

ALGORITHMS = ("dqn", "myopic")

SHARED: dict[str, Any] = {"target_period": 10, "target_tau": 0.1, "double": True, "gamma": 0.5}
"""Beside the defaults of `settings.py`, on logs whose updates are given."""


@dataclass(frozen=True)
class Log:
    """One real log and its training."""

    name: str
    file: str  # below QURATE_DATA
    what: str
    steps: int | None = None  # updates of each training; None: all is left to the defaults that follow the log
    rewards: dict[str, Any] | None = None  # None: the defaults of mdp/rewards.py
    settings: dict[str, Any] = field(default_factory=dict)
    episode: Literal["session", "user"] | None = None  # None: the default of mdp/dataset.py
    newest: int | None = None  # the learner trains on so many of the newest training decisions; None = all
    visits: int | None = None  # test visits ranked, drawn with seed 0; None = all
    notes: tuple[str, ...] = ()

    @property
    def all_settings(self) -> dict[str, Any]:
        """What `train` is given besides algorithm, seed and steps."""
        return {**(SHARED if self.steps is not None else {}), **self.settings}


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
        steps=1500,
        settings={"window": 20, "embedding_dim": 32, "lr": 5e-3, "negatives": 4000},
        episode="session",
        newest=300_000,
        visits=20_000,
        notes=(
            "Articles that appear after the training period cannot be ranked by any row and count as misses. News turns over fast and "
            "the validation tenth lies between training and test, so that most targets are such articles and the rest are old ones: "
            "without item features no row can rank the new ones.",
        ),
    ),
    Log(
        "kuairand",
        "kuairand/like_hate_27k_core15.parquet",
        "short videos shown one at a time; reward .01 per second watched (at most 60), 1 for a like, -1 for a hide",
        steps=1500,
        rewards={"watch": {"weight": 0.01, "per": "value", "cap": 60}, "like": 1, "hide": -1},
        settings={"window": 50, "embedding_dim": 32, "lr": 3e-3},
        notes=(
            "Only liked or hidden rows were published: its rates are not population rates. A target is a video that the platform "
            "showed and the customer rewarded, ranked among all 9,359.",
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
    ".108). globo_news at .005 after 700 updates: Q .069, myopic .067; the table trains 1,500.",
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
