"""The observations of a Gymnasium task as arrays of one kind: numbers or pixels, and categories."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.types import DenseState

MASK = "action_mask"
"""Key of the legal actions, in an observation or in `info`."""

MIN_SIDE = 8
"""uint8 arrays with shorter sides are boards or codes, not images: they become numbers."""


class TaskSpec(NamedTuple):
    """What a network must know about a task."""

    numbers_shape: tuple[int, ...]  # (D,), or (C, H, W)
    numbers_dtype: np.dtype[Any]  # float32, or uint8 for pixels
    categories: tuple[int, ...]  # [G] how many values each category has
    n_actions: int


class Leaf(NamedTuple):
    """One array of an observation."""

    path: tuple[str | int, ...]  # keys of the dicts and tuples around it
    kind: Literal["numbers", "category", "pixels"]
    space: spaces.Space[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of an observation go: `DenseState(numbers, categories)`.

    * uint8 boxes of two or three axes with sides of at least 8 are pixels [C, H, W]; of the first and the last axis the
      shorter one is the channels, and [H, W] has one channel.
    * Discrete and MultiDiscrete are categories, counted from 0 whatever their start.
    * Every other box and MultiBinary is flattened to float32, in the order of the space.
    """

    leaves: tuple[Leaf, ...]
    has_mask: bool  # the observation says which actions are legal
    numbers_shape: tuple[int, ...]
    sizes: tuple[int, ...]  # of the categories

    @classmethod
    def of(cls, space: spaces.Space[Any], name: str) -> "Layout":
        """The layout of a single environment's observations.

        Raises:
            UserError: a space that is none of these, or pixels beside numbers.
        """
        has_mask = isinstance(space, spaces.Dict) and MASK in space.spaces
        leaves = tuple(leaf for leaf in _leaves(space, (), name) if leaf.path != (MASK,))
        kinds = {leaf.kind for leaf in leaves}
        images = sum(leaf.kind == "pixels" for leaf in leaves)
        if not leaves or images > 1 or {"pixels", "numbers"} <= kinds:
            got = ", ".join(f"{_text(leaf.path)}: {leaf.kind}" for leaf in leaves) or "nothing"
            raise UserError("observations of one image, or of numbers", got, where=name, hint="wrap the environment", code=Code.BAD_ENV)
        shape = next((_channels_first(leaf.space.shape) for leaf in leaves if leaf.kind == "pixels"), None)
        width = sum(int(np.prod(leaf.space.shape or ())) for leaf in leaves if leaf.kind == "numbers")
        sizes = [int(n) for leaf in leaves if leaf.kind == "category" for n in np.ravel(_sizes(leaf.space))]
        return cls(leaves, has_mask, shape or (width,), tuple(sizes))

    @property
    def pixels(self) -> bool:
        """Whether the numbers are an image."""
        return len(self.numbers_shape) == 3

    def encode(self, observation: Any, where: str) -> DenseState:
        """The state of B environments.

        Args:
            observation: batched by Gymnasium: arrays [B, ...] inside the dicts and tuples of the space.

        Raises:
            UserError: a number that is not finite in float32, or a category outside its space.
        """
        parts: dict[str, list[NDArray[Any]]] = {"numbers": [], "category": [], "pixels": []}
        for leaf in self.leaves:
            array = observation
            for key in leaf.path:
                array = array[key]
            parts[leaf.kind].append(_flat(leaf, np.asarray(array), where))
        batch = next(len(array) for arrays in parts.values() for array in arrays)
        if self.pixels:
            numbers = parts["pixels"][0]
        else:
            numbers = np.concatenate([np.zeros((batch, 0), np.float32), *parts["numbers"]], axis=1)
        return DenseState(numbers, np.concatenate([np.zeros((batch, 0), np.int64), *parts["category"]], axis=1))


def _leaves(space: spaces.Space[Any], path: tuple[str | int, ...], name: str) -> list[Leaf]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        return [leaf for key, part in inner for leaf in _leaves(part, (*path, key), name)]
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return [Leaf(path, "category", space)]
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        image = space.dtype == np.uint8 and len(space.shape) in (2, 3) and sorted(space.shape)[-2] >= MIN_SIDE
        return [Leaf(path, "pixels" if image else "numbers", space)]
    got = f"{type(space).__name__} at {_text(path)}"
    raise UserError("Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple observations", got, where=name, code=Code.BAD_ENV)


def _flat(leaf: Leaf, array: NDArray[Any], where: str) -> NDArray[Any]:
    """float32 or int64 [B, width], or uint8 [B, C, H, W]."""
    expected = leaf.space.shape or ()
    if array.shape[1:] != expected:
        got = f"shape {list(array.shape[1:])}"
        raise UserError(f"{_text(leaf.path)} of shape {list(expected)}", got, where=where, code=Code.BAD_ENV)
    if leaf.kind == "pixels":
        if len(expected) == 2:
            return array[:, None].copy()
        return (array.transpose(0, 3, 1, 2) if _channels_last(expected) else array).copy(order="C")
    if leaf.kind == "category":
        values = (array - _start(leaf.space)).astype(np.int64)
        wrong = (values < 0) | (values >= _sizes(leaf.space))
        if wrong.any():
            got = f"{_text(leaf.path)} = {array[wrong][0]}"
            raise UserError(f"a value of {leaf.space}", got, where=where, code=Code.BAD_ENV)
        return np.reshape(values, (len(array), -1))
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        numbers = array.reshape(len(array), -1).astype(np.float32)
    if not np.isfinite(numbers).all():
        got = f"{_text(leaf.path)} = {array.reshape(len(array), -1)[~np.isfinite(numbers)][0]}"
        raise UserError("finite float32 observations", got, where=where, code=Code.BAD_ENV)
    return numbers


def _sizes(space: spaces.Space[Any]) -> NDArray[np.int64] | int:
    return space.nvec if isinstance(space, spaces.MultiDiscrete) else int(space.n)  # type: ignore[attr-defined]


def _start(space: spaces.Space[Any]) -> Any:
    return space.start  # type: ignore[attr-defined]


def _channels_last(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] < shape[0]


def _channels_first(shape: tuple[int, ...] | None) -> tuple[int, ...]:
    shape = shape or ()
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], shape[0], shape[1]) if _channels_last(shape) else shape


def _text(path: tuple[str | int, ...]) -> str:
    return "observation" + "".join(f"[{key!r}]" for key in path)
