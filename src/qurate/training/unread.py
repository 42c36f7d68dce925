"""Settings that were given and that nothing reads where it is trained."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from qurate.errors import Code, UserError
from qurate.settings import PARTS, Settings, flat

log = logging.getLogger("qurate.training")

SWITCHES = {"noisy_sigma": "noisy", "priority_alpha": "prioritised", "priority_beta": "prioritised"}
"""Settings that mean something only where another one is on."""
OF_BOOTSTRAPPING = (
    "double", "loss", "target_period", "target_tau", "item_updates", "behaviour_head", "support_threshold", "aux_weight", "negatives",
)  # fmt: skip
"""What a form without a target network and without a behaviour head does not have."""


def refuse_unread(given: Mapping[str, Any], chosen: Settings, unread: Sequence[str], place: str) -> None:
    """Settings that nothing reads where it is trained are not taken in silence, unless they say what holds anyway.

    Raises:
        UserError: one of `unread`, with another value than usual; or one whose switch is off.
    """
    changed, values = _changed(given, chosen), flat(chosen)
    name = next((name for name in changed if name in unread), None)
    if name is not None:
        hint = "leave it out"
        raise UserError(f"a setting that {place} reads", name, where="--set", hint=hint, code=Code.SETTING_OF_ANOTHER_ALGORITHM)
    name = next((name for name in changed if name in SWITCHES and not values[SWITCHES[name]]), None)
    if name is not None:
        switch = SWITCHES[name]
        hint = "set both, or leave it out"
        raise UserError(f"{switch}=true with {name}", f"{switch}=false", where=f"--set {name}", hint=hint, code=Code.BAD_SETTING)


def note_unread_by_form(given: Mapping[str, Any], chosen: Settings) -> None:
    """Says which of the given settings the form of Q does not read: the form may be one that nobody asked for."""
    form = chosen.network.form
    unread = ("later_weight", *OF_BOOTSTRAPPING) if form == "linear_later" else () if form == "now_later" else ("later_weight",)
    names = ", ".join(name for name in _changed(given, chosen) if name in unread)
    if names:
        log.warning("note: form=%s does not read %s; --set form=now_later does, where the algorithm has it", form, names)


def _changed(given: Mapping[str, Any], chosen: Settings) -> list[str]:
    """Those of the given settings whose value is not the usual one of all algorithms."""
    values, usual = flat(chosen), {field.name: field.default for part in PARTS for field in msgspec.structs.fields(part)}
    return [name for name in given if name in values and name in usual and values[name] != usual[name]]
