"""FitNet: the teacher's feature itself, through a 1x1 convolution without bias.

Romero et al.: "FitNets: hints for thin deep nets", ICLR 2015, equation 3; fidelity `exact`.
"""

from pydantic import Field
from torch import Tensor, nn

from ctrcl.losses.features import Projection, mean_squared_error
from ctrcl.methods.base import FeatureOptions, OfflineMethod, Step


class FitNet(OfflineMethod):
    citation = "Romero et al.: FitNets: hints for thin deep nets, ICLR 2015"
    equation = "{weight} mean (r(F) - F_t)²"
    fidelity = "exact"

    class Options(FeatureOptions):
        weight: float = Field(10.0, ge=0)

    def stage_module(self, own: int, theirs: int) -> nn.Module:
        return Projection(own, theirs)

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        return mean_squared_error(module(own), theirs)
