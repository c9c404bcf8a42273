"""Two players in one backward: gradient reversal and a learnable temperature (CTKD), constant weights.

Li et al.: "Curriculum temperature for knowledge distillation", AAAI 2023; fidelity `exact`. Both players are trained by
one sum of losses and one optimiser: a discriminator's term is computed from detached maps, a generator's term through
`frozen` weights.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctrcl.losses.targets import Feature, Logits, Scalar, Valid, mean_where, wide

SLOPE = 0.2  # of every leaky ReLU


def reverse(x: Float[Tensor, "*shape"], strength: float) -> Float[Tensor, "*shape"]:
    """The same values; the gradient is multiplied by `strength`, which is negative for an adversary."""
    passed = x * strength  # what carries the gradient
    return passed + (x - passed).detach()


def ctkd_strength(epoch: float, epochs: int = 10) -> float:
    """CTKD's curriculum: 0 in the beginning, -1 from `epochs` on, a half cosine between."""
    return (math.cos(math.pi * min(epoch, epochs) / epochs) + 1) / 2 - 1


class Temperature(nn.Module):
    """One learnable temperature, tau = start + span sigmoid(theta), learnt to make the loss larger."""

    def __init__(self, theta: float = 1.0, start: float = 1.0, span: float = 20.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        self.start, self.span = start, span

    def forward(self, strength: float) -> Scalar:
        """Tau, whose gradient reaches theta multiplied by `strength`."""
        return self.start + self.span * torch.sigmoid(reverse(self.theta, strength))


def ctkd(student: Logits, teacher: Logits, temperature: Scalar, valid: Valid | None = None) -> Scalar:
    """`kd` at a live temperature, whose gradient also comes from the teacher's softmax and from tau^2."""
    dtype = wide(student.dtype)
    log_p = (student.to(dtype) / temperature).log_softmax(1)
    log_q = (teacher.detach().to(dtype) / temperature).log_softmax(1)
    per_pixel = (log_q.exp() * (log_q - log_p)).sum(1)
    return (temperature**2 * mean_where(per_pixel, valid)).to(student.dtype)


class Scorer(nn.Module):
    """One score per image for maps of a size that `look` can take; in the weights' precision, also under autocast."""

    def __init__(self, look: nn.Module, channels: int) -> None:
        super().__init__()
        self.look, self.judge = look, nn.Linear(channels, 1)

    def forward(self, maps: Feature) -> Float[Tensor, " b"]:
        """Scores without bounds: the mean over positions of what `look` sees, judged."""
        with torch.autocast(maps.device.type, enabled=False):
            return self.judge(self.look(maps.to(self.judge.weight.dtype)).mean((2, 3)))[:, 0]


def frozen(module: nn.Module, *inputs: Tensor) -> Tensor:
    """The module's output with constant parameters: the gradient reaches the inputs and nothing else."""
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return torch.func.functional_call(module, constants, inputs)
