"""Training settings: nested frozen structs, one per part of the learner; `--set` names them flat.

Every field carries its range and its unit. An unknown name is an error that names the nearest known one; a setting of
another algorithm is an error that names that algorithm (`algorithms/table.py` says which parts an algorithm has).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from qurate.errors import Code, UserError, nearest


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape of the Q-network."""

    hidden: Annotated[int, Meta(ge=4, le=4096, description="units per layer")] = 64
    filters: Annotated[int, Meta(ge=1, le=512, description="of the first convolution of large images; the others have twice as many")] = 32
    encoder: Annotated[Literal["mean", "gru", "transformer"], Meta(description="how the history becomes a vector")] = "mean"
    window: Annotated[int, Meta(ge=1, le=1000, description="events of history a state holds")] = 50
    embedding_dim: Annotated[int, Meta(ge=2, le=1024, description="dimensions of an item vector")] = 32
    head: Annotated[
        Literal["q", "dueling", "c51", "qr"],
        Meta(
            description="q: values; c51, qr: a distribution of returns (of algorithms that learn one); dueling: state value and "
            "advantages in streams of their own, of any of them"
        ),
    ] = "q"
    form: Annotated[
        Literal["now_later", "single", "linear_later"],
        Meta(
            description="Q as now + later, each with layers of its own; one head (classical); or now from event models and later linear, "
            "by least squares: of dqn and myopic, and their default in worlds of more than 16 items and on logs with probabilities"
        ),
    ] = "now_later"
    noisy: Annotated[bool, Meta(description="the last layers explore by learned noise; epsilon is then 0 unless it is set")] = False
    noisy_sigma: Annotated[float, Meta(gt=0.0, le=10.0, description="deviation of that noise at the start, times sqrt(inputs)")] = 0.5
    id_embedding: Annotated[bool, Meta(description="learn a free vector per item beside its features")] = True
    id_dropout: Annotated[
        float, Meta(ge=0.0, lt=1.0, description="share of ids hidden in training, so that features must carry new items")
    ] = 0.1
    history_terms: Annotated[
        bool, Meta(description="beside the encoder, see straight how like the history's items an item is, and whether it is one of them")
    ] = True
    behaviour_head: Annotated[
        Literal["views", "attention"],
        Meta(description="views: linear in the views of the history; attention: attends to single events besides, and gates repeats"),
    ] = "views"


class LearningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Objective and optimisation."""

    gamma: Annotated[float, Meta(ge=0.0, le=1.0, description="discount per decision within a visit")] = 0.9
    lr: Annotated[float, Meta(gt=0.0, description="step size of Adam; of the table's update in tabular algorithms")] = 1e-3
    lr_schedule: Annotated[
        Literal["constant", "cosine"], Meta(description="of training from a log; cosine: warms up, then falls to 1/50 over `passes`")
    ] = "constant"
    passes: Annotated[float, Meta(gt=0.0, le=1_000.0, description="over the training decisions of a log, where no --steps are given")] = 3.0
    batch_size: Annotated[int, Meta(ge=1, description="transitions per update")] = 256
    n_step: Annotated[int, Meta(ge=1, le=50, description="decisions whose rewards a target sums before it bootstraps")] = 1
    target_period: Annotated[int, Meta(ge=1, description="updates between two target updates")] = 1
    target_tau: Annotated[float, Meta(gt=0.0, le=1.0, description="share of the online weights per target update (1 = hard copy)")] = 0.01
    loss: Annotated[Literal["squared", "huber"], Meta(description="of the reward and TD errors")] = "squared"
    later_weight: Annotated[float, Meta(gt=0.0, le=1.0, description="share with which errors of `later` count beside those of `now`")] = 0.3
    double: Annotated[bool, Meta(description="online network picks, target network values the next action")] = False
    adam_eps: Annotated[float, Meta(ge=1e-30, le=1.0, description="added to the root of Adam's second moment")] = 1e-8
    item_updates: Annotated[
        Literal["auto", "all", "touched"],
        Meta(
            description="which item ids an update moves: all, by Adam; those that its batch touches, by lazy Adam; auto: touched above "
            "50,000 items"
        ),
    ] = "auto"
    ema: Annotated[float, Meta(ge=0.0, lt=1.0, description="decay of the averaged weights that are kept; 0 = last weights")] = 0.999


class OfflineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What learning from a log needs besides."""

    support_threshold: Annotated[
        float, Meta(ge=0.0, le=1.0, description="BCQ: least pi_b(a|s) / max pi_b(.|s) inside the maximum; 0 = off")
    ] = 0.3
    aux_weight: Annotated[float, Meta(ge=0.0, description="of the behaviour head's cross-entropy; 0 = no behaviour head")] = 1.0
    negatives: Annotated[int, Meta(ge=0, description="unchosen items per row on organic logs, with reward 0")] = 64
    candidate_features: Annotated[
        bool, Meta(description="use what is known of each candidate of a list at its decision: place, price, age, touched before")
    ] = True
    calibrate: Annotated[
        bool, Meta(description="fit the behaviour head's temperature, its repeats and a term of similar visits on held-out decisions")
    ] = False
    clocks: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="rank shortlists by decayed counts and co-clicks, new items too; auto: where the catalogue turns over fast"),
    ] = "auto"
    clocks_late: Annotated[float, Meta(ge=0.0, description="seconds by which those counters lag behind where the model answers")] = 0.0


class ReplaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept and how it is sampled."""

    replay_capacity: Annotated[int, Meta(ge=1, description="decisions kept when learning online")] = 200_000
    update_every: Annotated[int, Meta(ge=1, description="decisions per update when learning online")] = 4
    lanes: Annotated[int, Meta(ge=1, le=4096, description="customers, or copies of a task, met at once when learning online")] = 64
    warm_up: Annotated[int, Meta(ge=0, description="decisions before the first update when learning online")] = 1_000
    reward_clip: Annotated[
        float, Meta(ge=0.0, description="rewards beyond +- this are cut before they are learned from, online; 0 = never")
    ] = 0.0
    life_ends: Annotated[bool, Meta(description="losing a life of a game ends the return that is learned, though the game goes on")] = False
    prioritised: Annotated[bool, Meta(description="sample by the size of the last TD error")] = False
    priority_alpha: Annotated[float, Meta(ge=0.0, le=1.0, description="exponent of the priorities; 0 = uniform")] = 0.6
    priority_beta: Annotated[float, Meta(ge=0.0, le=1.0, description="exponent of the importance weights at the start; it ends at 1")] = 0.4


class ExplorationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is shown while learning online."""

    epsilon_start: Annotated[float, Meta(ge=0.0, le=1.0, description="probability of a uniformly random action, first step")] = 1.0
    epsilon_end: Annotated[float, Meta(ge=0.0, le=1.0, description="probability of a uniformly random action, after epsilon_steps")] = 0.1
    epsilon_steps: Annotated[int, Meta(ge=1, description="decisions over which epsilon falls linearly")] = 20_000
    epsilon_spread: Annotated[
        bool, Meta(description="simulated customers explore by different amounts, from epsilon to 1, all the time")
    ] = False


class CategoricalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="categorical"):
    """The support of a categorical distribution of returns (C51)."""

    atoms: Annotated[int, Meta(ge=2, le=501, description="values of the return's distribution")] = 51
    v_min: Annotated[float, Meta(ge=-1e15, le=1e15, description="smallest return of the support, reward units")] = -10.0
    v_max: Annotated[float, Meta(ge=-1e15, le=1e15, description="largest return of the support, reward units")] = 10.0


class QuantileSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="quantile"):
    """Quantiles of the return: at fixed fractions (QR-DQN), or at fractions that are drawn (IQN)."""

    quantiles: Annotated[int, Meta(ge=1, le=501, description="quantiles of the return per action in the loss")] = 51
    kappa: Annotated[
        float, Meta(ge=0.0, description="errors below it count as squares in the quantile loss, reward units; 0 = exact quantiles")
    ] = 1.0
    target_quantiles: Annotated[int, Meta(ge=1, le=501, description="IQN: quantiles drawn for each target")] = 32
    policy_quantiles: Annotated[int, Meta(ge=1, le=501, description="IQN: quantiles whose mean is Q, at equally spaced fractions")] = 32
    cosines: Annotated[int, Meta(ge=0, le=1024, description="IQN: cosines that describe a fraction; 0 = fixed fractions")] = 0


class MunchausenSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="munchausen"):
    """Entropy and the scaled log-policy in the target."""

    munchausen_alpha: Annotated[float, Meta(ge=0.0, le=1.0, description="share of the log-policy that is added to the reward")] = 0.9
    munchausen_tau: Annotated[
        float, Meta(gt=0.0, description="temperature of the policy softmax(Q / tau), reward units; its entropy counts as much")
    ] = 0.03
    munchausen_clip: Annotated[float, Meta(lt=0.0, description="least value of tau times the log-policy, reward units")] = -1.0


class TableSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="table"):
    """How a state becomes a row of a table."""

    table_states: Annotated[int, Meta(ge=1, le=1_000_000, description="rows of the table; histories are hashed into them")] = 4_096
    table_history: Annotated[int, Meta(ge=0, le=50, description="newest events that decide the row, beside the customer's features")] = 3


class ConservativeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="conservative"):
    """Conservative Q-learning (CQL)."""

    cql_alpha: Annotated[
        float, Meta(ge=0.0, le=1_000.0, description="weight of log-sum-exp Q - Q of what was shown, reward units; 0 = plain DQN")
    ] = 1.0


class ImplicitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="implicit"):
    """Implicit Q-learning (IQL)."""

    expectile: Annotated[
        float, Meta(gt=0.0, lt=1.0, description="of Q over what the log shows in a state: .5 = its mean, towards 1 the best of it")
    ] = 0.7
    inverse_temperature: Annotated[
        float, Meta(ge=0.0, le=1_000.0, description="per reward unit: the policy weighs a row by exp(this times its advantage)")
    ] = 1.0


class SlateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="slate"):
    """How slates are valued and chosen (SlateQ)."""

    slate_optimiser: Annotated[
        Literal["exact", "greedy", "topk"],
        Meta(description="which slate is shown and assumed next: the best one; built item by item; or the largest mass x value"),
    ] = "exact"
    slate_target: Annotated[
        Literal["q", "sarsa"], Meta(description="the successor's slate in the target: the optimiser's; or the one that was shown")
    ] = "q"
    nothing_value: Annotated[
        bool, Meta(description="learn what choosing nothing is worth; off: it counts 0, as in the published code of SlateQ")
    ] = True
    choice_model: Annotated[
        Literal["learned", "known"],
        Meta(description="what is chosen of a slate: learned from choices; or the world's own, where it tells it"),
    ] = "learned"
    slate_size: Annotated[int, Meta(ge=1, description="items of a slate: the environment's own")] = 1


class FittedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fitted"):
    """What the rankers without reinforcement learning have; `baselines/registry.py` says which of them reads what."""

    half_life: Annotated[float, Meta(ge=0.0, description="days after which what happened counts half; 0 = all counts alike")] = 0.0
    decay: Annotated[float, Meta(gt=0.0, le=1.0, description="weight of a history row relative to the next newer one")] = 0.8
    neighbours: Annotated[int, Meta(ge=1, le=5_000, description="nearest items kept per item, or nearest visits used")] = 100
    shrink: Annotated[float, Meta(ge=0.0, description="visits; lowers the similarity of pairs of items seen together rarely")] = 5.0
    regularisation: Annotated[float, Meta(gt=0.0, description="weight of the squared size of what is fitted")] = 1.0
    factors: Annotated[int, Meta(ge=1, le=1_024, description="dimensions of an item's and a customer's factors")] = 64
    iterations: Annotated[int, Meta(ge=1, le=10_000, description="passes over all pairs of customer and item")] = 15
    confidence: Annotated[float, Meta(gt=0.0, description="weight of an item that a customer had; that of the others is 1")] = 40.0
    width: Annotated[float, Meta(ge=0.0, description="standard errors added to the expected reward; 0 = none")] = 0.0


Extra = (
    CategoricalSettings
    | QuantileSettings
    | MunchausenSettings
    | TableSettings
    | ConservativeSettings
    | ImplicitSettings
    | SlateSettings
    | FittedSettings
    | None
)
EXTRAS = (
    CategoricalSettings, QuantileSettings, MunchausenSettings, TableSettings, ConservativeSettings, ImplicitSettings, SlateSettings,
    FittedSettings,
)  # fmt: skip
"""Parts that only some algorithms have; settings have at most one of them."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a run; `--set KEY=VALUE` and `train(..., KEY=VALUE)` name the leaves."""

    network: NetworkSettings = NetworkSettings()
    learning: LearningSettings = LearningSettings()
    offline: OfflineSettings = OfflineSettings()
    replay: ReplaySettings = ReplaySettings()
    exploration: ExplorationSettings = ExplorationSettings()
    algorithm: Extra = None

    @property
    def of_the_sum(self) -> bool:
        """Whether only the weighted sum of the reward components is learned: a distribution of returns, or a log-policy, has no parts."""
        return isinstance(self.algorithm, CategoricalSettings | QuantileSettings | MunchausenSettings)

    @property
    def needs_actions(self) -> bool:
        """Whether the loss needs all that could be chosen at the decision itself, not at its successor alone."""
        return isinstance(self.algorithm, ConservativeSettings | MunchausenSettings)

    @property
    def uses_candidate_features(self) -> bool:
        """Whether its network can use what is known of each candidate at its decision."""
        return self.algorithm is None or isinstance(self.algorithm, ConservativeSettings | ImplicitSettings)

    @property
    def window(self) -> int:
        """L, history rows in a state."""
        return self.network.window


PARTS: tuple[type[msgspec.Struct], ...] = (
    NetworkSettings, LearningSettings, OfflineSettings, ReplaySettings, ExplorationSettings, *EXTRAS,
)  # fmt: skip
OWNER: dict[str, type[msgspec.Struct]] = {field.name: part for part in PARTS for field in msgspec.structs.fields(part)}
"""Which part a flat name belongs to; names are unique."""


def flat(settings: Settings) -> dict[str, Any]:
    """Leaf name -> value, of all parts that the settings have."""
    parts = [getattr(settings, name) for name in Settings.__struct_fields__]
    return {name: value for part in parts if part is not None for name, value in msgspec.structs.asdict(part).items()}


def from_flat(values: Mapping[str, Any]) -> Settings:
    """The inverse of `flat`; absent leaves have their defaults, the algorithm's part stands where one of its leaves is named."""
    given: dict[type[msgspec.Struct], dict[str, Any]] = {}
    for name, value in values.items():
        given.setdefault(OWNER[name], {})[name] = value
    extra = next((kind(**given[kind]) for kind in EXTRAS if kind in given), None)
    own: dict[str, type[msgspec.Struct]] = {
        "network": NetworkSettings, "learning": LearningSettings, "offline": OfflineSettings, "replay": ReplaySettings,
        "exploration": ExplorationSettings,
    }  # fmt: skip
    parts: dict[str, Any] = {part: kind(**given.get(kind, {})) for part, kind in own.items()}
    return Settings(**parts, algorithm=extra)


def replace(settings: Settings, **leaves: Any) -> Settings:
    """The same settings with some leaves changed."""
    return from_flat(flat(settings) | leaves)


LARGEST_INT, LARGEST_FLOAT = 2**53, 3.4e38
"""Numbers of settings enter float64 and float32 arithmetic."""
ELSEWHERE = {
    "learning_rate": "lr", "step_size": "lr", "discount": "gamma", "discount_factor": "gamma", "minibatch_size": "batch_size",
    "n_steps": "n_step", "multi_step": "n_step", "tau": "target_tau", "polyak": "target_tau", "target_update": "target_period",
    "target_update_interval": "target_period", "buffer_size": "replay_capacity", "memory_size": "replay_capacity",
    "replay_size": "replay_capacity", "hidden_size": "hidden", "hidden_dim": "hidden", "embedding_size": "embedding_dim",
    "history_length": "window", "sequence_length": "window", "double_q": "double", "prioritized": "prioritised",
    "prioritized_replay": "prioritised", "exploration_initial_eps": "epsilon_start", "exploration_final_eps": "epsilon_end",
    "epsilon_final": "epsilon_end", "epsilon_decay": "epsilon_steps", "learning_starts": "warm_up", "num_quantiles": "quantiles",
    "num_atoms": "atoms", "regularization": "regularisation", "neighbors": "neighbours", "n_factors": "factors",
}  # fmt: skip
"""Names that settings have in papers and other libraries."""
WITH_POINT = re.compile(r"[+-]?(?=.*[.eE])(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""A number with a point or an exponent, as people write it."""
FEW = 8
"""So many settings are named in a hint."""


def _nearest_setting(name: str, known: Collection[str]) -> str:
    """The setting that is nearest to what was written, or nearest to a name that it has elsewhere."""
    elsewhere = {other: own for other, own in ELSEWHERE.items() if own in known}
    close = get_close_matches(name.lower().replace("-", "_"), [*elsewhere, *known], n=1, cutoff=0.7)
    return f"did you mean {elsewhere.get(close[0], close[0])}?" if close else nearest(name, known)


def _hint_of_other(name: str, known: Collection[str], algorithm: str) -> str:
    """What to do about a setting that `algorithm` does not have here."""
    if name == "slate_size":
        return "the world says how many items are shown: --env interest_evolution,slate_size=3"
    if len(known) <= FEW:
        return f"{algorithm} has {', '.join(sorted(known)) or 'no settings'}"
    return "leave it out: it is of other algorithms, or of catalogues only"


def _number(value: Any) -> Any:
    """A text such as .5, 5. or 1e5 as a number; anything else as it is."""
    if not isinstance(value, str) or not WITH_POINT.fullmatch(value):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) <= LARGEST_INT else number


def parse_leaves(values: Mapping[str, Any], allowed: Iterable[str], algorithm: str) -> dict[str, Any]:
    """Checked values by leaf name; text is converted to the field's type.

    Args:
        allowed: the leaves that `algorithm` has.

    Raises:
        UserError: unknown name (the nearest known one is named), a setting of another algorithm, wrong type or out of range.
    """
    known, out = set(allowed), {}
    for name, value in values.items():
        if name not in OWNER:
            raise UserError("a known setting", name, where="--set", hint=_nearest_setting(name, known), code=Code.UNKNOWN_SETTING)
        if name not in known:
            hint = _hint_of_other(name, known, algorithm)
            raise UserError(f"a setting of {algorithm}", name, where="--set", hint=hint, code=Code.SETTING_OF_ANOTHER_ALGORITHM)
        part, unit = OWNER[name], describe(name)["unit"]
        try:
            own = value.item() if getattr(value, "shape", None) == () else _number(value)  # numpy's numbers
            out[name] = getattr(msgspec.convert({name: own}, part, strict=False), name)
        except msgspec.ValidationError as error:
            expected = str(error).split(" - at")[0].split(", got")[0]
            raise UserError(f"{name}: {expected}", repr(value), where=f"--set {name}", hint=unit, code=Code.BAD_SETTING) from None
        largest = LARGEST_INT if isinstance(out[name], int) else LARGEST_FLOAT
        if not isinstance(out[name], str) and not abs(out[name]) <= largest:
            expected = f"{name}: a number of at most {largest:.3g}"
            raise UserError(expected, repr(value), where=f"--set {name}", hint=unit, code=Code.BAD_SETTING)
    return out


def describe(name: str) -> dict[str, str]:
    """Name, type and range, default, unit of one setting (for `train --set help`)."""
    field = next(f for f in msgspec.structs.fields(OWNER[name]) if f.name == name)
    schema = msgspec.json.schema(field.type)
    kind = "|".join(map(str, schema["enum"])) if "enum" in schema else schema["type"]
    low = schema.get("minimum", schema.get("exclusiveMinimum", ""))
    high = schema.get("maximum", schema.get("exclusiveMaximum", ""))
    limits = f" {low}..{high}" if low != "" or high != "" else ""
    return {"name": name, "type": kind + limits, "default": str(field.default), "unit": schema["description"]}


def describe_settings() -> list[dict[str, str]]:
    """One row per setting."""
    return [describe(name) for name in OWNER]
