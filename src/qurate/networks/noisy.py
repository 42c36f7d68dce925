"""Linear layers with learned noise, which explore by themselves (Fortunato et al. 2018, arXiv:1706.10295)."""

import torch
from torch import Tensor, nn


class NoisyLinear(nn.Linear):
    """y = W x + b + f(e_out) * (S (f(e_in) * x) + s) with f(e) = sign(e) sqrt|e| and e standard normal: factorised noise (eq. 10, 11).

    `weight` and `bias` are the means W and b. Each row of a batch has noise of its own, as each of many actors would; whatever
    stands between the first axis and the last one (quantiles of a state) shares it. Without a generator there is no noise.

    Args:
        inputs, outputs: widths.
        sigma0: the standard deviations S and s begin at sigma0 / sqrt(inputs).
    """

    def __init__(self, inputs: int, outputs: int, sigma0: float) -> None:
        super().__init__(inputs, outputs)  # torch's first weights are the paper's: uniform within 1 / sqrt(inputs)
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), sigma0 / inputs**0.5))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), sigma0 / inputs**0.5))

    def forward(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """float32 [B, ..., outputs] of x [B, ..., inputs]; `rng` draws the noise."""
        mean = super().forward(x)
        if rng is None:
            return mean
        ones = [1] * (x.dim() - 2)
        e_in, e_out = (_scaled(len(x), *ones, n, rng=rng, like=x) for n in (self.in_features, self.out_features))
        return mean + e_out * nn.functional.linear(x * e_in, self.weight_sigma, self.bias_sigma)


def _scaled(*shape: int, rng: torch.Generator, like: Tensor) -> Tensor:
    """f(e) for standard normal e."""
    e = torch.randn(shape, generator=rng, device=like.device)
    return e.sign() * e.abs().sqrt()


def linear(inputs: int, outputs: int, sigma0: float = 0.0) -> nn.Linear:
    """A linear layer, with noise where sigma0 is above 0."""
    return NoisyLinear(inputs, outputs, sigma0) if sigma0 > 0 else nn.Linear(inputs, outputs)


def run(layers: nn.Module, x: Tensor, rng: torch.Generator | None) -> Tensor:
    """x through a layer or a sequence of layers; `rng` draws the noise of those that have some."""
    for layer in layers if isinstance(layers, nn.Sequential) else [layers]:
        x = layer(x, rng) if isinstance(layer, NoisyLinear) else layer(x)
    return x
