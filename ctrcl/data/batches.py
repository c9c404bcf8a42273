"""Prepared arrays to augmented batches, on the device. Both students see the same batch.

The images of a step and their augmentation depend on the seed and the step's number alone, so that a resumed run
repeats an uninterrupted one. Random numbers come from the CPU, so that a GPU gets the same; only the noise of every
pixel (10 ms on the CPU for 16 colour images of 224 pixels) is drawn on the device: a run with `noise` on a GPU can be
repeated on GPUs of its kind, not on a CPU.
Geometry is one sampling grid for image and label, an affine map and, with `elastic`, a smooth displacement; label
pixels that come from outside the image are `IGNORE`.
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
POINTS = 4  # a side, of the coarse grid whose displacements bend an image


def scaled(images: Tensor) -> Float[Tensor, "b c h w"]:
    """uint8 (0 to 255) or half floats (0 to 1) to float32 in [0, 1]."""
    return images.float().div(255) if images.dtype == torch.uint8 else images.float()


def standardised(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Images in [0, 1] to images around 0."""
    mean, std = images.new_tensor(MEAN), images.new_tensor(STD)
    if images.shape[1] != len(MEAN):
        mean, std = mean.mean(), std.mean()
    return (images - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)


def generator(*key: int, device: torch.device | None = None) -> torch.Generator:
    """Random numbers that depend on these numbers alone, and on the kind of device where it is not the CPU."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator(device or "cpu").manual_seed(int(state[0]) << 31 ^ int(state[1]))


class Batches:
    """The training images, on the device where they fit into a third of its free memory.

    Args:
        prepared: the data set; `size` images a batch; `augmentation` settings; `seed` of the run; `device`.
        share, shares: with several devices, which part of each batch is this one's.
    """

    def __init__(
        self,
        prepared: Prepared,
        size: int,
        augmentation: Augmentation,
        seed: int,
        device: torch.device,
        share: int = 0,
        shares: int = 1,
    ):
        limit = torch.cuda.mem_get_info(device)[0] / 3 if device.type == "cuda" else 0
        arrays = [torch.from_numpy(np.array(array("train"))) for array in (prepared.images, prepared.labels)]
        self.images, self.labels = (array.to(device) if array.nbytes < limit else array for array in arrays)
        self.size = min(size, len(self.images))
        self.augmentation, self.seed, self.device = augmentation, seed, device
        self.mine = slice(share, None, shares)
        self.per_pass = len(self.images) // self.size

    def at(self, step: int) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b h w"]]:
        """The batch of a step: standardised images and class indices."""
        turn, place = divmod(step, self.per_pass)
        order = torch.randperm(len(self.images), generator=generator(self.seed, 0, turn))
        chosen = order[place * self.size : (place + 1) * self.size][self.mine].to(self.images.device)
        images, labels = (array[chosen].to(self.device) for array in (self.images, self.labels))
        drawn = draw(self.size, self.augmentation, generator(self.seed, 1, step))[self.mine].to(self.device)
        return augment(images, labels, drawn, self.bend(step), self.noise(step))

    def bend(self, step: int) -> Float[Tensor, "b 2 n n"] | None:
        """The elastic displacements of a step; None without `elastic`."""
        if not self.augmentation.elastic:
            return None
        return draw_bend(self.size, self.augmentation.elastic, generator(self.seed, 2, step))[self.mine].to(self.device)

    def noise(self, step: int) -> Float[Tensor, "b c h w"] | None:
        """The noise of a step, its standard deviation drawn per image; None without `noise`."""
        if not self.augmentation.noise:
            return None
        deviation = self.augmentation.noise * torch.rand(self.size, 1, 1, 1, generator=generator(self.seed, 3, step))
        source = generator(self.seed, 4, step, device=self.device)
        noise = torch.randn(self.size, *self.images.shape[1:], generator=source, device=self.device)
        return noise[self.mine] * deviation[self.mine].to(self.device)


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


def draw_bend(count: int, amplitude: float, source: torch.Generator) -> Float[Tensor, "b 2 n n"]:
    """Per image: how far each control point moves in x and y, in the sampling grid's units, whose side is 2."""
    return 2 * amplitude * (2 * torch.rand(count, 2, POINTS, POINTS, generator=source) - 1)


def displacement(bend: Float[Tensor, "b 2 n n"], height: int, width: int) -> Float[Tensor, "b h w 2"]:
    """What is added to the sampling grid: bicubic between the control points, which lie at the centres of the n x n
    parts of an image; at most 1.375² times the largest control displacement, as bicubic weights overshoot."""
    return F.interpolate(bend, size=(height, width), mode="bicubic", align_corners=False).movedim(1, -1)


def augment(
    images: Tensor,
    labels: Int[Tensor, "b h w"],
    drawn: Float[Tensor, "b 9"],
    bend: Float[Tensor, "b 2 n n"] | None = None,
    noise: Float[Tensor, "b c h w"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b h w"]]:
    """Rotate, scale, flip and bend image and label alike; then contrast, brightness, noise and gamma of the image."""
    pixels = scaled(images)
    grid = F.affine_grid(drawn[:, :6].reshape(-1, 2, 3), list(pixels.shape), align_corners=False)
    if bend is not None:
        grid = grid + displacement(bend, *labels.shape[1:])
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # labels are shifted by one, so that the zeros from outside differ from the background
    shifted = labels[:, None].float() + 1
    target = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0].long() - 1
    target = torch.where(target < 0, IGNORE, target)
    brightness, contrast, gamma = drawn[:, 6:, None, None, None].unbind(1)
    pixels = (pixels - 0.5) * contrast + 0.5 + brightness
    if noise is not None:
        pixels = pixels + noise
    return standardised(pixels.clamp(0, 1) ** gamma), target
