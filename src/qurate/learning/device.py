"""Where tensors are: `--device auto|cpu|cuda`."""

import torch

from qurate.errors import Code, UserError, nearest

DEVICES = ("auto", "cpu", "cuda")


def device_of(name: str, worth_it: bool = False) -> torch.device:
    """The device of this name.

    Args:
        name: of `DEVICES`. auto is a GPU where there is one and the work is large enough for it.
        worth_it: the networks are so large that a GPU pays; small ones wait longer for it than they compute.

    Raises:
        UserError: an unknown name, or cuda where torch finds no GPU.
    """
    if name not in DEVICES:
        raise UserError("auto, cpu or cuda", repr(name), where="--device", hint=nearest(name, DEVICES), code=Code.UNKNOWN_DEVICE)
    if name == "cuda" and not torch.cuda.is_available():
        built = "torch sees no GPU" if torch.version.cuda else "this torch is built for the CPU"
        raise UserError("a CUDA GPU", built, where="--device cuda", hint="say --device cpu, or leave the option out", code=Code.NO_DEVICE)
    return torch.device("cuda" if name == "cuda" or (name == "auto" and worth_it and torch.cuda.is_available()) else "cpu")
