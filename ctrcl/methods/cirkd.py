"""Cross-image relational KD (CIRKD): relations between the images of a batch, and to a memory of past ones.

Yang, Zhou, An, Jiang, Xu, Zhang: "Cross-image relational knowledge distillation for semantic segmentation", CVPR 2022;
fidelity `exact`. Where the authors' code departs from their text, we follow the text: 4096 and 1024 are anchors in
all, so 4096 / K and 1024 / K of each class (the code takes as many of every class), and a pixel enters the queue of its
own class (the code indexes the image by the rank within the class). Ours: a queue starts empty, not as noise, and a
batch is compared before it is stored.
"""

import torch
from jaxtyping import Bool, Float, Integer
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctrcl.losses.divergence import kd
from ctrcl.losses.features import dots, matched, unit, widened
from ctrcl.losses.shapes import Feature, Scalar, TeacherFeature
from ctrcl.losses.targets import IGNORE, one_hot, reduce_to, wide
from ctrcl.methods.base import OfflineMethod, OfflineOptions, Stage, Step, Terms
from ctrcl.models.students import Prediction


def cirkd_batch(student: Feature, teacher: TeacherFeature, temperature: float = 0.1) -> Scalar:
    """KL of the similarities between the positions of two images, mean over rows and all B^2 ordered pairs.

    S_ij = F_i F_j^T of unit vectors; a row is a position of image i, its softmax runs over the positions of image j.
    The similarities of one image to all are held at a time and computed again for the gradient: B h w x h w numbers
    instead of B times as many.
    """
    own, fixed = (unit(f, 1).flatten(2) for f in widened(student, teacher))

    def of_image(i: int, own: Tensor) -> Tensor:
        s, t = (dots(f.mT, f[i] / temperature) for f in (own, fixed))  # image j, its positions, those of image i
        return kd(s, t)  # KL(softmax(S^t / T) || softmax(S^s / T)), without T^2

    terms = [checkpoint(of_image, i, own, use_reentrant=False, preserve_rng_state=False) for i in range(len(own))]
    return torch.stack(terms).mean().to(student.dtype)


class ClassMemory(nn.Module):
    """Queues of the teacher's pixels and region means, one per class, and the student's projector to their width.

    All of it is saved with the module: `pixels` K P D and `regions` K R D hold unit vectors, `pixels_seen` and
    `regions_seen` count all that ever entered. An entry's place is its number modulo the length, so a full queue gives
    up its oldest.

    Args:
        student_channels, teacher_channels: of the features; the teacher's is D.
        classes: K.
        pixel_slots, region_slots: P and R.
        pixel_anchors, region_anchors: how many to compare with, of all classes together.
        pushed: at most how many pixels of every image and class are stored.
        temperature: of both softmaxes; its square is no factor.
    """

    pixels: Tensor
    regions: Tensor
    pixels_seen: Tensor
    regions_seen: Tensor

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        classes: int,
        pixel_slots: int = 20_000,
        region_slots: int = 2_000,
        pixel_anchors: int = 4_096,
        region_anchors: int = 1_024,
        pushed: int = 16,
        temperature: float = 0.1,
        ignore: int = IGNORE,
    ) -> None:
        super().__init__()
        self.classes, self.pushed, self.temperature, self.ignore = classes, pushed, temperature, ignore
        self.of_pixels, self.of_regions = (max(1, number // classes) for number in (pixel_anchors, region_anchors))
        self.project = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.BatchNorm2d(teacher_channels),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        for name, slots in (("pixels", pixel_slots), ("regions", region_slots)):
            self.register_buffer(name, torch.zeros(classes, slots, teacher_channels))
            self.register_buffer(f"{name}_seen", torch.zeros(classes, dtype=torch.long))

    def forward(
        self, student: Feature, teacher: Float[Tensor, "b d y x"], target: Integer[Tensor, "b Y X"]
    ) -> tuple[Scalar, Scalar]:
        """The pixel and the region term against the memory; then this batch is stored too.

        Each is KL(softmax(S^t / T) || softmax(S^s / T)) of the similarities of a position to the anchors, mean over
        the positions that count; 0 where none does or the memory is empty. A class without memory has no anchor.
        """
        own, fixed = matched(student, teacher)
        dtype = wide(student.dtype)
        reduced = reduce_to(target, (own.shape[2], own.shape[3]))
        truth, counted = (each.flatten(2) for each in one_hot(reduced, self.classes, self.ignore, dtype))
        own, fixed = (unit(f.to(dtype), 1).flatten(2) for f in (self.project(own), fixed))
        queues = (self.pixels, self.pixels_seen, self.of_pixels), (self.regions, self.regions_seen, self.of_regions)
        terms = [self._term(own, fixed, counted.squeeze(1), *_anchors(*queue)) for queue in queues]
        _push(self.pixels, self.pixels_seen, *_some_pixels(fixed, truth, self.pushed))
        _push(self.regions, self.regions_seen, *_region_means(fixed, truth))
        return terms[0].to(student.dtype), terms[1].to(student.dtype)

    def _term(
        self,
        student: Float[Tensor, "b d n"],
        teacher: Float[Tensor, "b d n"],
        counted: Bool[Tensor, "b n"],
        anchors: Float[Tensor, "a d"],
        filled: Bool[Tensor, "a"],
    ) -> Scalar:
        lowest = torch.finfo(student.dtype).min  # of an empty slot, so that its share is 0
        s, t = (
            dots(anchors.to(f.dtype), f / self.temperature).where(filled.unsqueeze(1), lowest)
            for f in (student, teacher)
        )
        return kd(s, t, valid=counted)


@torch.no_grad()
def _anchors(
    queue: Float[Tensor, "k p d"], seen: Integer[Tensor, "k"], number: int
) -> tuple[Float[Tensor, "a d"], Bool[Tensor, "a"]]:
    """So many entries of every class, drawn without repetition, and which of them are filled."""
    slots = torch.arange(queue.shape[1], device=queue.device)
    slot, filled = _drawn(slots < seen.unsqueeze(1), number)
    return queue.take_along_dim(slot.unsqueeze(2), 1).flatten(0, 1), filled.flatten()


@torch.no_grad()
def _some_pixels(
    features: Float[Tensor, "b d n"], truth: Float[Tensor, "b k n"], number: int
) -> tuple[Float[Tensor, "k e d"], Bool[Tensor, "k e"]]:
    """Up to so many positions of every class, from every image."""
    place, valid = _drawn(truth > 0, number)
    rows = features.mT.unsqueeze(1).take_along_dim(place.unsqueeze(3), 2)  # b k number d
    return rows.transpose(0, 1).flatten(1, 2), valid.transpose(0, 1).flatten(1)


@torch.no_grad()
def _region_means(
    features: Float[Tensor, "b d n"], truth: Float[Tensor, "b k n"]
) -> tuple[Float[Tensor, "k b d"], Bool[Tensor, "k b"]]:
    """The mean of every class in every image, scaled to unit length (so the sum will do)."""
    return unit(dots(truth, features.mT), 2).transpose(0, 1), truth.any(2).T


def _drawn(eligible: Bool[Tensor, "*b n"], number: int) -> tuple[Integer[Tensor, "*b m"], Bool[Tensor, "*b m"]]:
    """Random places, the eligible ones first, and whether each is; the CPU's numbers, so that a GPU draws the same."""
    ticket = torch.rand(eligible.shape, device="cpu").to(eligible.device).where(eligible, -1)
    best = ticket.topk(min(number, eligible.shape[-1]))
    return best.indices, best.values >= 0


@torch.no_grad()
def _push(
    queue: Float[Tensor, "k p d"], seen: Integer[Tensor, "k"], rows: Float[Tensor, "k e d"], valid: Bool[Tensor, "k e"]
) -> None:
    """The valid rows take the next places of their queue; if they are more than it holds, the first of them.

    Written with fixed shapes (an unused place gets its old entry back), so that a GPU need not wait for the counts.
    """
    order = valid.byte().sort(dim=1, descending=True, stable=True).indices[:, : queue.shape[1]]
    number = valid.sum(1).clamp_max(order.shape[1])
    step = torch.arange(order.shape[1], device=queue.device)
    slot = ((seen.unsqueeze(1) + step) % queue.shape[1]).unsqueeze(2)
    entry = rows.to(queue.dtype).take_along_dim(order.unsqueeze(2), 1)
    used = (step < number.unsqueeze(1)).unsqueeze(2)
    queue.scatter_(1, slot.expand_as(entry), entry.where(used, queue.take_along_dim(slot, 1)))
    seen += number


class CIRKD(OfflineMethod):
    """KD, mini-batch relations, and pixel and region relations to a memory."""

    label = "CIRKD"
    citation = "Yang et al.: Cross-image relational knowledge distillation, CVPR 2022"
    equation = "weights {weights} of KD, batch, pixels, regions"
    fidelity = "exact"
    soft_terms = ("kd",)

    class Options(OfflineOptions):
        """Weights of KD, batch, pixels and regions; the length of the queues, per class."""

        weights: tuple[float, float, float, float] = (1.0, 1.0, 0.1, 0.1)
        stages: tuple[Stage, ...] = Field((3,), min_length=1)
        temperature: float = Field(0.1, gt=0)
        pixels: int = Field(20_000, ge=1)
        regions: int = Field(2_000, ge=1)

    def stage_module(self, own: int, theirs: int) -> nn.Module:
        """The memory of one stage."""
        o = self.options
        return ClassMemory(own, theirs, self.classes, o.pixels, o.regions, temperature=o.temperature)

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        """`kd`, `batch`, `pixels`, `regions`."""
        soft = kd(student.log_probabilities, teacher.offered, valid=step.valid)
        found = (soft, *self.loss(name, student, teacher, step).unbind())
        names = ("kd", "batch", "pixels", "regions")
        return {n: w * term for n, w, term in zip(names, self.options.weights, found, strict=True)}

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        """`cirkd_batch`, and pixels and regions against the memory."""
        batch = cirkd_batch(own, theirs, self.options.temperature)
        return torch.stack([batch, *module(own, theirs, step.target)])
