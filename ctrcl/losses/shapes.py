"""Shapes that many signatures share, as jaxtyping types; the tests check them at every call.

B images, K classes, C and D channels; `*hw` is any number of spatial axes, `h w` the grid of a feature map, `H W` that
of a target or of a teacher's feature map.
"""

from jaxtyping import Bool, Float, Integer
from torch import Tensor

Scalar = Float[Tensor, ""]
Logits = Float[Tensor, "b k *hw"]  # or probabilities, or their logarithms
Maps = Float[Tensor, "b k h w"]  # logits of a training step or of a stage
Target = Integer[Tensor, "b *hw"]
FullTarget = Integer[Tensor, "b H W"]
Valid = Bool[Tensor, "b *hw"]
PerPixel = Float[Tensor, "b *hw"]
Index = Integer[Tensor, "b 1 *hw"]
Feature = Float[Tensor, "b c h w"]
TeacherFeature = Float[Tensor, "b d H W"]
