"""What two players need: gradient reversal, discriminators for features and for logits, and who learns from which term.

- Reversal and learnable temperature: Li et al., "Curriculum temperature for knowledge distillation" (CTKD), AAAI 2023;
  fidelity `exact`, pinned by tau = 15.6211715726 at theta = 1.
- LSGAN on features: Chung et al., "Feature-map-level online adversarial knowledge distillation" (AFD), ICML 2020;
  fidelity `formula`. Ours is the discriminator: two 1x1 convolutions of 64 channels, the mean over positions, a score.
- WGAN-GP on logits: the holistic term of Liu et al., "Structured knowledge distillation for semantic segmentation"
  (SKD), CVPR 2019, penalty 10; fidelity `exact` of the losses. Ours is the critic: three strided convolutions and no
  self-attention; it takes whatever maps it is given, so a caller who wants it conditioned on the image concatenates.

Both players are trained by one sum of losses, one backward and one optimiser: a discriminator's term is given
constants, a generator's term goes through `frozen` weights. No batch norm: its statistics would tie the two terms and
make a penalty per image meaningless. Scores are computed in the weights' precision, autocast or not.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctrcl.losses.targets import wide

SLOPE = 0.2  # of every leaky ReLU


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.strength, None


def reverse(x: Float[Tensor, "*shape"], strength: float) -> Float[Tensor, "*shape"]:
    """The same values; the gradient is multiplied by `strength`, which is negative for an adversary."""
    return _Reversal.apply(x, strength)


def ctkd_strength(epoch: float, epochs: int = 10) -> float:
    """CTKD's curriculum: 0 in the beginning, -1 from `epochs` on, a half cosine between."""
    return (math.cos(math.pi * min(epoch, epochs) / epochs) + 1) / 2 - 1


class Temperature(nn.Module):
    """One learnable temperature, tau = start + span sigmoid(theta), that is taught to make the loss larger."""

    def __init__(self, theta: float = 1.0, start: float = 1.0, span: float = 20.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        self.start, self.span = start, span

    def forward(self, strength: float) -> Float[Tensor, ""]:
        """Tau, whose gradient reaches theta multiplied by `strength`."""
        return self.start + self.span * torch.sigmoid(reverse(self.theta, strength))


def frozen(module: nn.Module, *inputs: Tensor) -> Tensor:
    """What the module says, its parameters constants: the gradient reaches the inputs and nothing else."""
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return torch.func.functional_call(module, constants, inputs)


class Discriminator(nn.Module):
    """One score per image for a feature map of any size: which of two networks made it?"""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(channels, width, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(width, width, 1), nn.LeakyReLU(SLOPE)
        )
        self.judge = nn.Linear(width, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Scores; 1 is real, 0 is fake."""
        with torch.autocast(features.device.type, enabled=False):
            return self.judge(self.look(features.to(self.judge.weight.dtype)).mean((2, 3)))[:, 0]


class Critic(nn.Module):
    """One score per image for logits maps of 8 pixels a side or more; image channels may be concatenated to them."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.look = nn.Sequential()
        for fewer, more in pairwise(widths):
            self.look.extend([nn.Conv2d(fewer, more, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)])
        self.judge = nn.Linear(widths[-1], 1)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Scores without bounds; the higher, the more like the teacher."""
        with torch.autocast(maps.device.type, enabled=False):
            return self.judge(self.look(maps.to(self.judge.weight.dtype)).mean((2, 3)))[:, 0]


def lsgan_discriminator(real: Float[Tensor, " b"], fake: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """mean (D(real) - 1)^2 + mean D(fake)^2, of the scores of maps that were detached."""
    return (real - 1).square().mean() + fake.square().mean()


def lsgan_generator(fake: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """mean (D(fake) - 1)^2, of scores that `frozen` computed."""
    return (fake - 1).square().mean()


def wgan_critic(
    critic: nn.Module,
    real: Float[Tensor, "b c h w"],
    fake: Float[Tensor, "b c h w"],
    penalty: float = 10.0,
    source: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """mean c(fake) - mean c(real) + penalty (|gradient of c| - 1)^2 between them; it teaches the critic alone.

    Args:
        critic: maps to one score per image.
        source: random numbers of the CPU (torch's own, if none is given), so that a GPU draws the same.
    """
    real, fake = real.detach().to(wide(real.dtype)), fake.detach().to(wide(fake.dtype))
    share = torch.rand(len(real), 1, 1, 1, generator=source).to(real)
    between = torch.lerp(fake, real, share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    excess = slope.flatten(1).norm(dim=1) - 1
    return critic(fake).mean() - critic(real).mean() + penalty * excess.square().mean()


def wgan_generator(critic: nn.Module, fake: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """-mean c(fake); its gradient reaches the maps and not the critic."""
    return -frozen(critic, fake).mean()
