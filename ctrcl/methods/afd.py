"""AFD: deep mutual learning plus an adversarial game on feature maps.

Chung, Park, Kim, Kwak: "Feature-map-level online adversarial knowledge distillation", ICML 2020; fidelity `formula`.
Ours: the stage (3), a 1x1 transfer to the peer's channels, the discriminator (two 1x1 convolutions of 64 channels, the
mean over positions, a score), one backward for both players, the game's weight 0.1 (at 1 it dominated the
segmentation loss on the validation phantoms).
"""

from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ctrcl.losses.adversarial import SLOPE, Scorer, frozen
from ctrcl.losses.features import Projection
from ctrcl.losses.targets import Scalar
from ctrcl.methods.base import OTHER, PAIRS, Shape, SoftLabelMethod, SoftLabelOptions, Stages, Step, Terms


class Discriminator(Scorer):
    """Scores of feature maps of any size; 1 is real, 0 is fake."""

    def __init__(self, channels: int, width: int = 64) -> None:
        first, second = nn.Conv2d(channels, width, 1), nn.Conv2d(width, width, 1)
        super().__init__(nn.Sequential(first, nn.LeakyReLU(SLOPE), second, nn.LeakyReLU(SLOPE)), width)


def lsgan_discriminator(real: Float[Tensor, " b"], fake: Float[Tensor, " b"]) -> Scalar:
    """mean (D(real) - 1)^2 + mean D(fake)^2, of the scores of maps that were detached."""
    return (real - 1).square().mean() + fake.square().mean()


def lsgan_generator(fake: Float[Tensor, " b"]) -> Scalar:
    """mean (D(fake) - 1)^2, of scores that `frozen` computed."""
    return (fake - 1).square().mean()


class AFD(SoftLabelMethod):
    """DML, and a game in which a student's transferred features try to pass for the peer's own.

    One discriminator per student: that student's features are real, the other's transferred ones are fake.
    """

    citation = "Chung et al.: Feature-map-level online adversarial distillation, ICML 2020"
    equation = "{alpha} KL(p_peer || p) + {beta} LSGAN(F)"
    fidelity = "formula"

    class Options(SoftLabelOptions):
        """`beta` weighs the game."""

        beta: float = Field(0.1, ge=0)
        stages: Stages = (3,)

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        widths = shape.widths
        self.judges = self.per_stage(lambda n, s: Discriminator(widths[n][s]))
        self.transfers = self.per_stage(lambda n, s: Projection(widths[n][s], widths[OTHER[n]][s]))

    def forward(self, step: Step) -> Terms:
        """DML's terms; `adversarial_a` (of student a) and `discriminator_a` (of its discriminator), the same of b."""
        lists: dict[str, list[Tensor]] = {}
        for name, peer in PAIRS:
            for number, stage in enumerate(self.stages):
                judge = self.judges[peer][number]
                fake = self.transfers[name][number](step.predictions[name].features[stage])
                real = step.predictions[peer].features[stage].detach()
                lists.setdefault(f"adversarial_{name}", []).append(lsgan_generator(frozen(judge, fake)))
                scores = judge(real), judge(fake.detach())
                lists.setdefault(f"discriminator_{peer}", []).append(lsgan_discriminator(*scores))
        game = {name: self.options.beta * torch.stack(parts).mean() for name, parts in lists.items()}
        return super().forward(step) | game
