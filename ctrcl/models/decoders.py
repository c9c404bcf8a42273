"""One light decoder for every backbone, so that a comparison compares backbones and methods, not decoders.

The all-MLP head of SegFormer (Xie et al., NeurIPS 2021, section 3.2) with the sum in place of the concatenation and
one 3x3 convolution: each map to `width` channels, all of them at stride 4, added, refined, classified.

Its variant "selective" refines by the Selective Fusion of dual distillation (Cui et al., Medical Physics 2024,
10.1002/mp.17506); fidelity `interpretation`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def _refine(width: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class SelectiveFusion(nn.Module):
    """Two branches that see differently far, and per image and channel how much of each to take.

    Known is that a light student has a Selective Fusion module. We read it as a selective kernel (Li et al., CVPR
    2019): the branches' sum, averaged over positions, goes through a bottleneck, and a softmax over branches weighs
    the channels. Ours are the place (the decoder's refinement), the branches (3x3, and 3x3 dilated by 2, which sees
    5x5), the bottleneck (a quarter of the channels, no norm, so that one image is a batch) and its biases. It starts as
    the branches' plain sum (equal weights, times their number): with random halves it learnt much more slowly.
    """

    def __init__(self, width: int):
        super().__init__()
        self.branches = nn.ModuleList([_refine(width), _refine(width, dilation=2)])
        self.squeeze = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(inplace=True))
        self.excite = nn.Linear(width // 4, len(self.branches) * width)
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)

    def weigh(self, seen: Float[Tensor, "b n c h w"]) -> Float[Tensor, "b n c"]:
        """The branches' weights, which sum to one in every channel of every image."""
        pooled = seen.sum(1).mean((2, 3))
        return self.excite(self.squeeze(pooled)).unflatten(1, seen.shape[1:3]).softmax(1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The branches' weighted mean, times their number."""
        seen = torch.stack([branch(x) for branch in self.branches], dim=1)
        return len(self.branches) * (self.weigh(seen)[..., None, None] * seen).sum(1)


class Decoder(nn.Module):
    """Maps at strides 4 to 32 -> class logits at stride 4; with `fusion`, refined by `SelectiveFusion`."""

    def __init__(self, widths: list[int], classes: int, width: int = 64, fusion: bool = False):
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)
        refine = [SelectiveFusion(width)] if fusion else _refine(width)
        self.refine = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True), *refine)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k h w"]:
        """Coarse to fine: each sum is enlarged to the next map's size."""
        total = self.project[-1](features[-1])
        for project, finer in zip(reversed(self.project[:-1]), reversed(features[:-1]), strict=True):
            lateral = project(finer)
            total = lateral + F.interpolate(total, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return self.classify(self.refine(total))
