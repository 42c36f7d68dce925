"""The real logs of `make results`: where they lie, what an answer is worth, and how DQN and myopic are trained on each.

Settings were chosen on the validation split alone (retailrocket_sessions has none: the last tenth of its training
sessions stood in), the same for DQN and myopic; what was tried stands in `TRIED` and is printed into the page.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

ALGORITHMS = ("dqn", "myopic")

SHARED: dict[str, Any] = {"target_period": 10, "target_tau": 0.1}
"""Beside the defaults of `config.Settings`, on every log."""


@dataclass(frozen=True)
class Log:
    """One real log and its training."""

    name: str
    file: str  # below QURATE_DATA
    what: str
    steps: int  # updates of each training
    rewards: dict[str, Any] | None = None  # None: the defaults of mdp/rewards.py
    settings: dict[str, Any] = field(default_factory=dict)
    episode: Literal["session", "user"] | None = None  # None: the default of mdp/dataset.py
    newest: int | None = None  # the learner trains on so many of the newest training decisions; None = all
    visits: int | None = None  # test visits ranked, drawn with seed 0; None = all
    notes: tuple[str, ...] = ()

    @property
    def all_settings(self) -> dict[str, Any]:
        """What `train` is given besides algorithm, seed and steps."""
        return {**SHARED, **self.settings}


LOGS: tuple[Log, ...] = (
    Log(
        "trivago_100k",
        "trivago_100k/sessions.parquet",
        "hotel search; a shown list of up to 25 hotels is re-ranked, the click on one of them is the reward",
        steps=300,
        settings={"window": 20, "embedding_dim": 32, "lr": 1e-3, "batch_size": 1024},
        notes=(
            "HR@20 says little here: lists hold at most 25 hotels. MRR of the re-ranked list is the figure to read. No learned row sees "
            "the place of a hotel in the list (it is no feature of the hotel), which is all that the site's own order has.",
        ),
    ),
    Log(
        "globo_news",
        "globo_news/clicks.parquet",
        "news clicks",
        steps=700,
        settings={"window": 20, "embedding_dim": 32, "lr": 1e-2, "negatives": 4000},
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
        steps=400,
        rewards={"watch": {"weight": 0.01, "per": "value", "cap": 60}, "like": 1, "hide": -1},
        settings={"window": 50, "embedding_dim": 32, "lr": 1e-2},
        notes=(
            "Only liked or hidden rows were published: its rates are not population rates. A target is a video that the platform "
            "showed and the customer rewarded, ranked among all 9,359.",
        ),
    ),
    Log(
        "retailrocket_sessions",
        "retailrocket_sessions/retailrocket.parquet",
        "shop sessions as item sequences, no time",
        steps=900,
        settings={"window": 20, "embedding_dim": 32, "lr": 1e-2},
        notes=("In 38 % of the test rows the answer stands earlier in the row, so that own items most recent first is hard to beat.",),
    ),
    Log(
        "movielens_small",
        "movielens_small/ratings.parquet",
        "film ratings with genres as item features; reward = the rating",
        steps=600,
        settings={"window": 20, "embedding_dim": 64, "lr": 5e-3, "gamma": 0.5},
        notes=("Split by time: 91 % of the test targets are of customers who rated nothing in the training period.",),
    ),
)

TRIED: tuple[str, ...] = (
    "Few runs, no grid: each line is one or two runs of one seed on validation targets (HR@20; trivago: MRR of the list) after 200 to 600 "
    "updates, mostly with 256 transitions. Small differences mean nothing. Nothing was chosen on the test split.",
    "Code changed between these runs, and but for trivago_100k the exact combination of the table was never run on validation targets: the "
    "number of updates was set by the time at hand, and DQN's gamma was varied on movielens_small alone. On retailrocket_sessions, where "
    "myopic's Q is far above DQN's, gamma .9 at rate .01 is such a combination; it was left as it was after the test figures were seen.",
    "movielens_small (item-kNN .108). With the mean encoder alone and 64 sampled negatives Q stayed at .033 and the behaviour "
    "head at .030, "
    "at rates .001 and .005. The mean over the whole catalogue through the Gram matrix in place of sampled negatives, and items "
    "compared with the history directly (`match` in networks/qnetwork.py), gave myopic's Q .075 and the behaviour head .098 at rate .005; "
    "window 50 with a wider layer the same (.073, .097). A GRU without either: behaviour head .048. DQN after 500 updates: gamma .9 .038; "
    "gamma .5 with rate .01 .064; gamma .5 with rate .005 and 16 negatives .068; gamma .9 with rate .01 and 300 negatives .043.",
    "retailrocket_sessions (own items most recent first .683 there): myopic's Q after 400 updates at rates .005, .01, .02: .227, "
    ".279, .289; "
    "at .01 with 1,000 negatives .246. DQN with 4,000 negatives and gamma .5: .224.",
    "globo_news (item-kNN .095), with episodes by user: myopic trained on all decisions with 64 negatives .002; on the newest 300,000 with "
    "1,000 negatives .074; DQN on these with 4,000 negatives .093. One click is worth 1, so that without an end of visits the Bellman "
    "solution would be constant and `train` refuses: the table uses episodes by session, for which nothing was tuned again.",
    "trivago_100k (last touched first .598): batch 256 at rate .005 rose to .366 and fell back to .290; batch 1,024 at .001 rose to .400.",
    "kuairand (item-kNN .027), with the default rewards: behaviour head at rates .002 and .01 .007 and .027 (myopic, window 50); "
    "DQN at .005 with window 20 .013.",
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
