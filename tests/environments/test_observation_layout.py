"""Spaces to arrays: what becomes numbers, categories and pixels, by hand."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from qurate.environments.observation_layout import Layout
from qurate.errors import UserError
from qurate.types import DenseState


def encoded(space: spaces.Space, *observations: Any) -> DenseState:
    batch = concatenate(space, observations, create_empty_array(space, len(observations)))
    state = Layout.of(space, "task").encode(batch, "task, step 0")
    assert state.categories.dtype == np.int64
    return state


def test_a_dict_of_everything() -> None:
    space = spaces.Dict(
        {
            "board": spaces.Box(0, 9, (2, 2), np.int32),
            "who": spaces.Discrete(3, start=10),
            "inner": spaces.Tuple((spaces.MultiDiscrete([2, 4]), spaces.MultiBinary(2), spaces.Box(-1, 1, (), np.float64))),
            "action_mask": spaces.MultiBinary(5),
        }
    )
    layout = Layout.of(space, "task")
    assert layout.numbers_shape == (7,) and layout.sizes == (2, 4, 3) and layout.has_mask and not layout.pixels
    one = {"board": np.arange(4).reshape(2, 2), "who": 12, "inner": (np.array([1, 3]), np.array([0, 1]), np.array(0.5)),
           "action_mask": np.ones(5, np.int8)}  # fmt: skip
    state = encoded(space, one, one | {"who": 10})
    assert state.numbers.dtype == np.float32
    assert state.numbers.tolist() == [[0, 1, 2, 3, 0, 1, 0.5]] * 2
    assert state.categories.tolist() == [[1, 3, 2], [1, 3, 0]]


def test_a_single_discrete_observation_is_one_category_and_no_number() -> None:
    state = encoded(spaces.Discrete(16), 3, 15)
    assert state.numbers.shape == (2, 0) and state.numbers.dtype == np.float32 and state.categories.tolist() == [[3], [15]]


@pytest.mark.parametrize(
    "shape,expected",
    [((12, 10), (1, 12, 10)), ((12, 10, 3), (3, 12, 10)), ((4, 84, 84), (4, 84, 84)), ((84, 84, 12), (12, 84, 84)), ((9, 9, 9), (9, 9, 9))],
)
def test_images_have_their_channels_first(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    state = encoded(space, image, image)
    assert Layout.of(space, "task").numbers_shape == expected and Layout.of(space, "task").pixels
    assert state.numbers.shape == (2, *expected) and state.numbers.dtype == np.uint8 and state.numbers.flags.c_contiguous
    channel, row, column = expected[0] - 1, 5, 7
    at = {2: (row, column), 3: (row, column, channel) if shape[-1] == expected[0] != shape[0] else (channel, row, column)}[len(shape)]
    assert state.numbers[1, channel, row, column] == image[at]


@pytest.mark.parametrize("shape", [(128,), (7, 7, 3), (3, 3)])
def test_short_uint8_arrays_are_numbers(shape: tuple[int, ...]) -> None:
    state = encoded(spaces.Box(0, 255, shape, np.uint8), np.full(shape, 200, np.uint8))
    assert state.numbers.dtype == np.float32 and state.numbers.shape == (1, np.prod(shape)) and (state.numbers == 200).all()


def test_an_image_beside_a_category() -> None:
    space = spaces.Dict({"screen": spaces.Box(0, 255, (8, 8), np.uint8), "lives": spaces.Discrete(4)})
    state = encoded(space, {"screen": np.ones((8, 8), np.uint8), "lives": 2})
    assert state.numbers.shape == (1, 1, 8, 8) and state.categories.tolist() == [[2]]


@pytest.mark.parametrize(
    "space,text",
    [
        (spaces.Text(5), "got Text at observation"),
        (spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))}), "got Sequence at observation['a']"),
        (
            spaces.Dict({"screen": spaces.Box(0, 255, (8, 8), np.uint8), "speed": spaces.Box(0, 1, (1,))}),
            "one image, or of numbers, got observation['screen']: pixels, observation['speed']: numbers",
        ),
        (spaces.Tuple([spaces.Box(0, 255, (8, 8), np.uint8)] * 2), "one image, or of numbers, got observation[0]: pixels"),
        (spaces.Dict({"action_mask": spaces.MultiBinary(2)}), "one image, or of numbers, got nothing"),
    ],
)
def test_spaces_that_are_not_supported(space: spaces.Space, text: str) -> None:
    with pytest.raises(UserError) as caught:
        Layout.of(space, "task")
    assert text in str(caught.value) and "at task" in str(caught.value)


@pytest.mark.parametrize("value", [-1, 3])
def test_a_category_outside_its_space_is_refused(value: int) -> None:
    layout = Layout.of(spaces.Discrete(3), "task")
    with pytest.raises(UserError, match=f"a value of Discrete\\(3\\), got observation = {value}, at task, step 4"):
        layout.encode(np.array([0, value]), "task, step 4")


def test_an_array_of_another_shape_is_refused() -> None:
    layout = Layout.of(spaces.Box(0, 1, (3,)), "task")
    with pytest.raises(UserError, match=r"observation of shape \[3\], got shape \[2\]"):
        layout.encode(np.zeros((5, 2), np.float32), "task, step 1")
