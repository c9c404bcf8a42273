"""MONAI's segmentation networks with the interface of our students: logits and four feature maps.

Cardoso et al.: "MONAI: an open-source framework for deep learning in healthcare", arXiv 2211.02701. Each network brings
its own decoder. `width` w scales it: 64 is near the published size, 32 suits a laptop (parameters for w = 64; 32).

| name                    | kind        | published in               | scaled by w                    | parameters    |
|-------------------------|-------------|----------------------------|--------------------------------|---------------|
| monai/UNet              | CNN         | Kerfoot, STACOM 2018       | levels w/2, w, 2w, 4w, 8w, 8w  | 14.9 M; 3.7 M |
| monai/AttentionUnet     | CNN         | Oktay, MIDL 2018           | levels w/4, w/2, w, 2w, 4w, 8w | 8.0 M; 2.0 M  |
| monai/BasicUNetPlusPlus | CNN         | Zhou, DLMIA 2018           | levels w/4, w/2, w, 2w, 4w     | 2.3 M; 0.6 M  |
| monai/SwinUNETR         | Transformer | Hatamizadeh, BrainLes 2021 | features 12 per 32, >= 12      | 6.3 M; 1.6 M  |
| monai/UNETR             | Transformer | Hatamizadeh, WACV 2022     | features w/4, hidden 4w        | 10.8 M; 2.8 M |

The maps are what the encoder hands on at strides 4, 8, 16 and 32; UNet++ and UNETR end at stride 16, so theirs are at
2, 4, 8 and 16. Batch norm throughout, as in our decoder: InstanceNorm is undefined on the 1 x 1 map that
an image of 32 pixels has at stride 32. Modules that MONAI builds and never calls are removed.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ctrcl.io import UserError

NETWORKS = ("monai/UNet", "monai/AttentionUnet", "monai/BasicUNetPlusPlus", "monai/SwinUNETR", "monai/UNETR")
DIVISOR = 32  # the coarsest stride


class Network(nn.Module):
    """A segmentation network that also returns the outputs of some of its modules; `widths` are their channels.

    Args:
        network: one of `NETWORKS`.
        channels, classes, size: of the (square) images, `size` a multiple of 32.
        width: w of the table above.
    """

    def __init__(self, network: str, channels: int, classes: int, size: int, width: int):
        super().__init__()
        if size % DIVISOR:
            raise UserError(f"{network} takes images whose size is a multiple of {DIVISOR}, not {size}; change `size`")
        self.whole, self.taps, self.widths = _BUILDERS[network](channels, classes, size, width)

    def forward(
        self, images: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b k h w"], list[Float[Tensor, "b _ _ _"]]]:
        """Logits at the size of the images, and four maps, fine to coarse."""
        seen: dict[str, Any] = {}

        def look(tap: str) -> Any:
            return self.whole.get_submodule(tap).register_forward_hook(lambda _, __, output: seen.update({tap: output}))

        hooks = [look(tap) for tap in self.taps]  # for this call alone, so that nothing is held between calls
        try:
            output = self.whole(images)
        finally:
            for hook in hooks:
                hook.remove()
        logits = output[-1] if isinstance(output, list) else output
        maps = [seen[tap] for tap in self.taps]
        return logits, maps if len(maps) > 1 else maps[0][1:]  # one tap: all hidden states, from stride 2 on


Built = tuple[nn.Module, list[str], list[int]]  # the network, the modules to look at, the channels of the maps


def _level(depth: int) -> str:
    """What MONAI calls the part of its U-Nets that lies so many levels deep."""
    return "model" + ".1.submodule" * depth


def _unet(channels: int, classes: int, size: int, w: int) -> Built:
    from monai.networks.nets import UNet

    levels = [w // 2, w, 2 * w, 4 * w, 8 * w, 8 * w]  # at strides 2, 4, 8, 16, 32, 32
    whole = UNet(2, channels, classes, levels, strides=(2,) * 5, num_res_units=2, norm="batch")
    return whole, [*(f"{_level(depth)}.0" for depth in (1, 2, 3)), _level(5)], [*levels[1:4], levels[5]]


def _attention_unet(channels: int, classes: int, size: int, w: int) -> Built:
    from monai.networks.nets import AttentionUnet

    levels = [w // 4, w // 2, w, 2 * w, 4 * w, 8 * w]  # at strides 1, 2, 4, 8, 16, 32
    whole = AttentionUnet(2, channels, classes, levels, strides=(2,) * 5)
    return whole, [*(f"{_level(depth)}.0" for depth in (2, 3, 4)), _level(5)], levels[2:]


def _unet_plus_plus(channels: int, classes: int, size: int, w: int) -> Built:
    from monai.networks.nets import BasicUNetPlusPlus

    levels = (w // 4, w // 2, w, 2 * w, 4 * w, w // 4)  # at strides 1, 2, 4, 8, 16; before the logits
    whole = BasicUNetPlusPlus(2, channels, classes, levels, norm="batch")
    for column in (1, 2, 3):
        setattr(whole, f"final_conv_0_{column}", nn.Identity())  # of the deep supervision
    return whole, [f"conv_{row}_0" for row in (1, 2, 3, 4)], list(levels[1:5])


def _swin_unetr(channels: int, classes: int, size: int, w: int) -> Built:
    from monai.networks.nets import SwinUNETR

    feature = 12 * max(1, w // 32)
    whole = SwinUNETR(channels, classes, feature_size=feature, norm_name="batch", spatial_dims=2)
    return whole, ["swinViT"], [feature * factor for factor in (2, 4, 8, 16)]


def _unetr(channels: int, classes: int, size: int, w: int) -> Built:
    from monai.networks.nets import UNETR

    whole = UNETR(channels, classes, size, w // 4, 4 * w, 16 * w, num_heads=8, norm_name="batch", spatial_dims=2)
    for block in whole.vit.blocks:
        block.norm_cross_attn = nn.Identity()  # there is no cross-attention
    # the last layer's tokens become a map only on the way into the decoder: an identity there, to look at
    whole.decoder5.transp_conv = nn.Sequential(nn.Identity(), whole.decoder5.transp_conv)
    taps = ["encoder2", "encoder3", "encoder4", "decoder5.transp_conv.0"]
    return whole, taps, [*(w // 4 * factor for factor in (2, 4, 8)), 4 * w]


_BUILDERS = dict(zip(NETWORKS, (_unet, _attention_unet, _unet_plus_plus, _swin_unetr, _unetr), strict=True))
