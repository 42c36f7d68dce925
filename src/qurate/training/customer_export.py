"""Event models as the arrays that `environments/customer_response.py` reads."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.environments.customer_response import Response, Seen, Wide
from qurate.mdp.states import gather_state
from qurate.mdp.storage import Dataset
from qurate.networks.encoders import MeanEncoder
from qurate.networks.event_network import EventNetwork
from qurate.types import IntArray

ROWS_AT_ONCE = 4_096


@torch.no_grad()
def export_arrays(network: EventNetwork, shown: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    """The arrays of `Response`, but for the scaling of its probabilities.

    Args:
        network: with the encoder "mean", without a behaviour head.
        shown: [N + 1] how often each item was shown in training; what never was has no vector of its own.
    """
    heads = network.heads.eval()
    encoder, tower = heads.encoder, heads.tower
    assert isinstance(encoder, MeanEncoder)
    never = torch.from_numpy(shown == 0)
    if tower.ids is not None and tower.id_bias is not None:
        tower.ids[never], tower.id_bias[never] = 0, 0
    table, views = tower(), heads.views
    first, second = encoder.layers[0], encoder.layers[2]
    tensors = {
        "vectors": table.vectors, "centred": table.centred[:, : heads.dim], "bias": table.centred[:, heads.dim :],
        "scale": views.scale, "log_rates": views.log_rates, "narrow": encoder.narrow.weight, "match": heads.match, "repeat": heads.repeat,
        "layer1": first.weight, "layer1_bias": first.bias, "layer2": second.weight, "layer2_bias": second.bias,
        "value": heads.value.weight, "value_bias": heads.value.bias,
        "direction": heads.direction.weight, "direction_bias": heads.direction.bias,
    }  # fmt: skip
    buffers = {name: network.get_buffer(name) for name in ("chain", "amount", "spread")}
    return {name: tensor.detach().numpy().copy() for name, tensor in (tensors | buffers).items()}


def seen_of(data: Dataset, states: IntArray, window: int) -> Seen:
    """What the response sees of decisions of a log."""
    t, arrays = data.transitions, data.arrays
    users = t.user[states].astype(np.int64)
    state = gather_state(arrays, arrays.user_start[users], t.history_end[states], t.clock[states], window, data.user_features[users])
    return Seen(state.history_items, state.history_types, state.history_gaps, state.history_values, state.user)


def response_of_rows(response: Response, data: Dataset, rows: IntArray, window: int) -> tuple[Wide, Wide]:
    """Logits and sizes [T, R] of what was shown in transitions `rows` [T] of a log."""
    logits, sizes = [np.zeros((0, response.n_events))], [np.zeros((0, response.n_events))]
    t = data.transitions
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[first : first + ROWS_AT_ONCE]
        heads = response.heads(seen_of(data, t.state[part].astype(np.int64), window))
        logit, size = response.raw(heads, t.action[part, None].astype(np.int64))
        logits.append(logit[:, 0])
        sizes.append(size[:, 0])
    return np.concatenate(logits), np.concatenate(sizes)
