"""Features of what was chosen, read from the list that was offered."""

import numpy as np

from qurate.replay.event_replay import _features_of


def test_what_stands_on_no_list_has_no_known_features() -> None:
    candidates = np.array([[3, 5, 0], [7, 8, 9], [4, 6, 0]])
    features = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    found = _features_of(np.array([5, 1, 4]), candidates, features)
    assert found[0].tolist() == [2, 3] and np.isnan(found[1]).all() and found[2].tolist() == [12, 13]
