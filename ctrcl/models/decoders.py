"""One light decoder for every backbone, so that a comparison compares backbones and methods, not decoders.

The all-MLP head of SegFormer (Xie et al., NeurIPS 2021, section 3.2) with the sum in place of the concatenation and
one 3x3 convolution: each map to `width` channels, all of them at stride 4, added, refined, classified.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Decoder(nn.Module):
    """Maps at strides 4 to 32 -> class logits at stride 4."""

    def __init__(self, widths: list[int], classes: int, width: int = 64):
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)
        self.refine = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k h w"]:
        """Coarse to fine: each sum is enlarged to the next map's size."""
        total = self.project[-1](features[-1])
        for project, finer in zip(reversed(self.project[:-1]), reversed(features[:-1]), strict=True):
            lateral = project(finer)
            total = lateral + F.interpolate(total, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return self.classify(self.refine(total))
