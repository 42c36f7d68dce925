"""Training settings: one flat frozen struct; an unknown key is an error that names the nearest known one."""

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from qurate.errors import Code, UserError, nearest

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
NonNegative = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--set KEY=VALUE` and `train(..., KEY=VALUE)` accept. Units stand in `UNITS`."""

    gamma: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.9
    lr: Positive = 1e-3
    batch_size: Count = 256
    n_step: Annotated[int, Meta(ge=1, le=50)] = 1
    target_period: Count = 1
    target_tau: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.01
    epsilon_start: Fraction = 1.0
    epsilon_end: Fraction = 0.1
    epsilon_steps: Count = 20_000
    epsilon_spread: bool = False
    hidden: Annotated[int, Meta(ge=4, le=4096)] = 64
    encoder: Literal["mean", "gru"] = "mean"
    window: Annotated[int, Meta(ge=1, le=1000)] = 50
    embedding_dim: Annotated[int, Meta(ge=2, le=1024)] = 32
    form: Literal["now_later", "single"] = "now_later"
    loss: Literal["squared", "huber"] = "squared"
    later_weight: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.3
    double: bool = False
    support_threshold: Fraction = 0.3
    aux_weight: NonNegative = 1.0
    negatives: Whole = 64
    ema: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.999
    id_embedding: bool = True
    id_dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.1
    replay_capacity: Count = 200_000
    update_every: Count = 4


UNITS = {
    "gamma": "discount per decision within a visit",
    "lr": "step size of Adam",
    "batch_size": "transitions per update",
    "n_step": "decisions",
    "target_period": "updates between two target updates",
    "target_tau": "share of the online weights per target update (1 = hard copy)",
    "epsilon_start": "probability of a uniformly random item, first step",
    "epsilon_end": "probability of a uniformly random item, after epsilon_steps",
    "epsilon_steps": "decisions over which epsilon falls linearly",
    "epsilon_spread": "simulated customers explore by different amounts, from epsilon to 1, all the time",
    "hidden": "units per layer",
    "encoder": "how the history becomes a vector",
    "window": "events of history a state holds",
    "embedding_dim": "dimensions of an item vector",
    "form": "Q as now + later, each with layers of its own, or one head (classical)",
    "loss": "of the reward and TD errors",
    "later_weight": "share with which errors of `later` count beside those of `now`",
    "double": "online network picks, target network values the next item",
    "support_threshold": "BCQ: least pi_b(a|s) / max pi_b(.|s) inside the maximum; 0 = off",
    "aux_weight": "of the behaviour head's cross-entropy; 0 = no behaviour head",
    "negatives": "sampled items per row on organic logs, with reward 0",
    "ema": "decay of the averaged weights that are kept; 0 = last weights",
    "id_embedding": "learn a free vector per item beside its features",
    "id_dropout": "share of ids hidden in training, so that features must carry new items",
    "replay_capacity": "decisions kept when learning online",
    "update_every": "decisions per update when learning online",
}


def parse_settings(values: dict[str, Any]) -> Settings:
    """Settings from names and values; text is converted to the field's type.

    Raises:
        UserError: unknown name (the nearest known one is named), wrong type or out of range.
    """
    known = Settings.__struct_fields__
    for name in values:
        if name not in known:
            raise UserError("a known setting", name, where="--set", hint=nearest(name, known), code=Code.UNKNOWN_SETTING)
    out: dict[str, Any] = {}
    for name, value in values.items():
        try:
            out[name] = getattr(msgspec.convert({name: value}, Settings, strict=False), name)
        except msgspec.ValidationError as error:
            expected = str(error).split(" - at")[0]
            raise UserError(f"{name}: {expected}", repr(value), where=f"--set {name}", hint=UNITS[name], code=Code.BAD_SETTING) from None
        if isinstance(out[name], float) and not math.isfinite(out[name]):
            raise UserError(f"{name}: a finite number", repr(value), where=f"--set {name}", hint=UNITS[name], code=Code.BAD_SETTING)
    return Settings(**out)


def describe_settings() -> list[dict[str, str]]:
    """One row per setting: name, type and range, default, unit (for `train --set help`)."""
    rows = []
    for field in msgspec.structs.fields(Settings):
        schema = msgspec.json.schema(field.type)
        kind = "|".join(map(str, schema["enum"])) if "enum" in schema else schema["type"]
        low = schema.get("minimum", schema.get("exclusiveMinimum", ""))
        high = schema.get("maximum", schema.get("exclusiveMaximum", ""))
        limits = f" {low}..{high}" if low != "" or high != "" else ""
        rows.append({"name": field.name, "type": kind + limits, "default": str(field.default), "unit": UNITS[field.name]})
    return rows
