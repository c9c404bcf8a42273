"""timm backbones as a pyramid of four NCHW feature maps at strides 4, 8, 16 and 32.

Wightman: "PyTorch Image Models", 10.5281/zenodo.4414861. ResNets and MobileNets offer a fifth map at stride 2,
which is left out; Swin's NHWC maps are turned to NCHW.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ctrcl.io import UserError
from ctrcl.models.networks import NETWORKS

STRIDES = (4, 8, 16, 32)
# a size that timm does not name: for runs of minutes, in which Swin-T (28 M) hardly begins to learn
PICO: dict[str, Any] = {"embed_dim": 32, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
SMALLER = {"swin_pico": ("swin_tiny_patch4_window7_224", PICO)}


class Encoder(nn.Module):
    """A backbone by its timm name; `widths` are the channels of its four maps.

    Args:
        network: timm's name, e.g. `resnet50`, `pvt_v2_b2`, `swin_tiny_patch4_window7_224`, or one of `SMALLER`.
        channels: of the image.
        size: pixels a side of the (square) images; some Transformers are built for one size.
        pretrained: timm's pretrained weights. Out of reach is a `UserError`, never a random start.
    """

    def __init__(self, network: str, channels: int, size: int, pretrained: bool = False):
        super().__init__()
        import timm

        name, sizes = SMALLER.get(network, (network, {}))
        if sizes and pretrained:
            raise UserError(f"{network} has no pretrained weights; set `pretrained: false`, or name {name}")
        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{network.split('_')[0]}*")[:5]) or "see timm.list_models()"
            raise UserError(f"unknown network {network!r}; timm knows: {near}; MONAI brings: {', '.join(NETWORKS)}")
        options: dict[str, Any] = {"features_only": True, "in_chans": channels, "pretrained": pretrained, **sizes}
        if "swin" in network:
            options["img_size"] = size
        try:
            self.backbone = timm.create_model(name, **options)
        except Exception as error:
            if not pretrained:
                raise
            raise UserError(
                f"the pretrained weights of {network} cannot be had ({type(error).__name__}); "
                f"connect to the model hub, or set `pretrained: false` and name the experiments `-scratch`"
            ) from error
        info: Any = self.backbone.feature_info
        reductions = info.reduction()
        if not set(STRIDES) <= set(reductions):
            raise UserError(f"{network} has maps at strides {reductions}, not at {STRIDES}; choose another backbone")
        self.stages = [reductions.index(stride) for stride in STRIDES]
        self.channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        self.widths: list[int] = [info.channels()[stage] for stage in self.stages]

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Four maps, fine to coarse."""
        maps = self.backbone(images)
        chosen = [maps[stage] for stage in self.stages]
        return [map_.permute(0, 3, 1, 2).contiguous() for map_ in chosen] if self.channels_last else chosen
