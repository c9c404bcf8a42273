"""Prepared arrays to augmented batches, on the device. Both students see the same batch.

The images of a step and their augmentation depend on the seed and the step's number alone, so that a resumed run
repeats an uninterrupted one. Random numbers come from the CPU, so that a GPU gets the same. Geometry is one affine
sampling grid for image and label; label pixels that come from outside the image are `IGNORE`.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ctrcl.config import Augmentation
from ctrcl.data import IGNORE
from ctrcl.data.preparation import Prepared

# of ImageNet, which pretrained backbones expect; grey images get the channels' average
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def scaled(images: Tensor) -> Float[Tensor, "b c h w"]:
    """uint8 (0 to 255) or half floats (0 to 1) to float32 in [0, 1]."""
    return images.float().div(255) if images.dtype == torch.uint8 else images.float()


def standardised(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Images in [0, 1] to images around 0."""
    mean, std = images.new_tensor(MEAN), images.new_tensor(STD)
    if images.shape[1] != len(MEAN):
        mean, std = mean.mean(), std.mean()
    return (images - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)


def generator(*key: int) -> torch.Generator:
    """Random numbers that depend on these numbers alone."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


class Batches:
    """The training images, on the device where they fit into a third of its free memory.

    Args:
        prepared: the data set; `size` images a batch; `augmentation` settings; `seed` of the run; `device`.
    """

    def __init__(self, prepared: Prepared, size: int, augmentation: Augmentation, seed: int, device: torch.device):
        limit = torch.cuda.mem_get_info(device)[0] / 3 if device.type == "cuda" else 0
        arrays = [torch.from_numpy(np.array(array("train"))) for array in (prepared.images, prepared.labels)]
        self.images, self.labels = (array.to(device) if array.nbytes < limit else array for array in arrays)
        self.size = min(size, len(self.images))
        self.augmentation, self.seed, self.device = augmentation, seed, device
        self.per_pass = len(self.images) // self.size

    def at(self, step: int) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b h w"]]:
        """The batch of a step: standardised images and class indices."""
        turn, place = divmod(step, self.per_pass)
        order = torch.randperm(len(self.images), generator=generator(self.seed, 0, turn))
        chosen = order[place * self.size : (place + 1) * self.size].to(self.images.device)
        images, labels = (array[chosen].to(self.device) for array in (self.images, self.labels))
        drawn = draw(self.size, self.augmentation, generator(self.seed, 1, step)).to(self.device)
        return augment(images, labels, drawn)


def draw(count: int, settings: Augmentation, source: torch.Generator) -> Float[Tensor, "b 9"]:
    """Per image: the affine map of the sampling grid (6 numbers), brightness, contrast, gamma."""
    u = torch.rand(count, 6, generator=source)
    spread = 2 * u - 1
    flip = 1 - 2 * (u[:, 0] < settings.flip).float()
    angle = spread[:, 1] * math.radians(settings.rotation)
    zoom = torch.exp(spread[:, 2] * math.log1p(settings.scale))
    cos, sin, none = torch.cos(angle) * zoom, torch.sin(angle) * zoom, torch.zeros(count)
    brightness = spread[:, 3] * settings.brightness
    contrast = 1 + spread[:, 4] * settings.contrast
    gamma = torch.exp(spread[:, 5] * math.log1p(settings.gamma))
    return torch.stack([cos * flip, -sin, none, sin * flip, cos, none, brightness, contrast, gamma], dim=1)


def augment(
    images: Tensor, labels: Int[Tensor, "b h w"], drawn: Float[Tensor, "b 9"]
) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b h w"]]:
    """Rotate, scale and flip image and label alike; then contrast, brightness and gamma of the image."""
    pixels = scaled(images)
    grid = F.affine_grid(drawn[:, :6].reshape(-1, 2, 3), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # labels are shifted by one, so that the zeros from outside differ from the background
    shifted = labels[:, None].float() + 1
    target = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0].long() - 1
    target = torch.where(target < 0, IGNORE, target)
    brightness, contrast, gamma = drawn[:, 6:, None, None, None].unbind(1)
    pixels = (pixels - 0.5) * contrast + 0.5 + brightness
    return standardised(pixels.clamp(0, 1) ** gamma), target
