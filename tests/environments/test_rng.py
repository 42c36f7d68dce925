"""StepDraws: one customer alone gets the numbers of the next steps at once, and they are those of each step by itself."""

import numpy as np

from qurate.environments.rng import STEP_STRIDE, StepDraws, box_muller, customer_keys, gaussian, purposes, uniforms


def test_luck_drawn_ahead_is_the_luck_of_each_step() -> None:
    draws, keys = StepDraws(lambda keys: (keys.astype(np.float64), uniforms(keys, purposes(3, 4)))), customer_keys(0, np.arange(5))

    def luck(keys: np.ndarray) -> np.ndarray:
        own, several = draws(keys)
        assert np.array_equal(own, keys)
        return several

    for step in range(40):
        alone = keys[:1] + np.uint64(step) * STEP_STRIDE
        assert luck(alone).shape == (4, 1) and np.array_equal(luck(alone), uniforms(alone, purposes(3, 4)))
    other = keys[3:4]  # a new customer, and the first one again
    assert np.array_equal(luck(other), uniforms(other, purposes(3, 4)))
    assert np.array_equal(luck(keys[:1]), uniforms(keys[:1], purposes(3, 4)))
    assert np.array_equal(luck(keys), uniforms(keys, purposes(3, 4)))


def test_one_normal_number_is_the_first_of_the_two() -> None:
    unit = uniforms(customer_keys(1, np.arange(1_000)), purposes(0, 2))
    assert np.array_equal(gaussian(unit), box_muller(unit)[0])
