"""Customers written by hand, whose probabilities are known: the response has no hidden part, only logits by item and event."""

from typing import Any

import numpy as np
import polars as pl

from qurate.environments.fitted_customers import Customers, Facts

EVENTS = ["click", "cart", "like"]
TYPES = ["cart", "click", "like", "shown"]
LOGITS = np.array([[0.0, 0.0, 0.0], [-1.0, 0.5, -0.5], [1.0, -0.5, 0.5], [0.2, 0.2, -2.0], [-2.0, 1.0, 1.0]])
"""[N + 1, R] of items 0 (padding) to 4."""


def hand_customers(**changed: Any) -> Customers:
    """Four items; cart follows click; like depends on click by `pair`; amounts of "like" are 2 with a uniform residual of +-1.

    Args:
        changed: arrays, or facts (weights, returns, ...), in place of the usual ones.
    """
    n, d, events, types, window, hidden = 4, 2, 3, 4, 5, 4
    views = 3 * types + 1
    zeros = {
        "vectors": (n + 1, d), "centred": (n + 1, d), "scale": (views, d), "narrow": (d, d), "match": (2 * events, views),
        "repeat": (2 * events, views), "layer1": (hidden, views * (d + 1) + 2 + 1), "layer1_bias": (hidden,), "layer2": (hidden, hidden),
        "layer2_bias": (hidden,), "value": (2 * events, hidden), "value_bias": (2 * events,), "direction": (2 * events * d, hidden + 3),
        "direction_bias": (2 * events * d,), "shift": (events,), "pair": (events, events),
        "told": (events, events), "residual": (events, 3),
    }  # fmt: skip
    arrays: dict[str, Any] = {name: np.zeros(shape) for name, shape in zeros.items()}
    arrays["vectors"] = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [2, 0]], float)
    arrays["bias"] = np.concatenate([LOGITS, np.zeros((n + 1, events))], axis=1)
    arrays["log_rates"] = np.array([-0.4, -2.5])
    arrays["chain"] = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], float)
    arrays |= {"amount": np.array([1.0, 1, 2]), "spread": np.array([0.0, 0, 1]), "slope": np.ones(3), "order": np.array([0, 2, 1])}
    arrays["pair"][2, 0] = 1.5
    arrays["residual"][2] = [-1, 0, 1]
    arrays["limits"] = np.array([[1, 1], [1, 1], [1.2, 2.9]], float)
    arrays["log_value"] = np.array([0, 7, 0], np.float32)
    features = 1 + events + events + d + 2 + 1
    arrays["leave"], arrays["return"] = np.zeros(features), np.zeros(features)
    arrays["leave"][0], arrays["return"][0] = -1.5, 0.5
    arrays["dwell"] = np.array([[10.0, 20, 30], [40, 50, 60]])
    arrays["pause"] = np.array([3_600.0, 7_200, 10_800])
    arrays["people"], arrays["people_visible"] = np.array([[-1.0], [1.0]], np.float32), np.array([[20.0], [40.0]], np.float32)
    arrays["item_features"] = np.zeros((n + 1, 0), np.float32)
    facts: dict[str, Any] = {
        "qurate": "test", "dataset_sha256": "", "kind": "logged", "item_ids": ["a", "b", "c", "d"], "type_names": TYPES,
        "events": EVENTS, "per_value": [False, False, True], "components": EVENTS, "weights": [1.0, 2.0, 0.5], "feature_names": [],
        "user_feature_names": ["age"], "window": window, "returns": True, "figures": {},
    }  # fmt: skip
    facts |= {name: changed.pop(name) for name in list(changed) if name in facts}
    return Customers(Facts(**facts), arrays | changed, pl.DataFrame({"item_id": facts["item_ids"]}))
