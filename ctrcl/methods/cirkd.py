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
from ctrcl.losses.features import dots, matched, truth_on_grid, unit, widened
from ctrcl.losses.targets import IGNORE, Feature, Scalar, TeacherFeature, wide
from ctrcl.methods.base import FeatureOptions, OfflineMethod, Prediction, Step, Terms


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


class Queue(nn.Module):
    """The last entries of every class: `rows` K S D, unit vectors, and `seen` K, how many ever entered.

    An entry's place is its number modulo S, so a full queue gives up its oldest. Both are saved with the module.
    """

    rows: Tensor
    seen: Tensor

    def __init__(self, classes: int, slots: int, width: int, anchors: int) -> None:
        super().__init__()
        self.number = max(1, anchors // classes)
        self.register_buffer("rows", torch.zeros(classes, slots, width))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.long))

    def anchors(self) -> tuple[Float[Tensor, "a d"], Bool[Tensor, "a"]]:
        """As many entries of every class, drawn without repetition, and which of them are filled."""
        slots = torch.arange(self.rows.shape[1], device=self.rows.device)
        slot, filled = _drawn(slots < self.seen.unsqueeze(1), self.number)
        return self.rows.take_along_dim(slot.unsqueeze(2), 1).flatten(0, 1), filled.flatten()

    def push(self, rows: Float[Tensor, "k e d"], valid: Bool[Tensor, "k e"]) -> None:
        """The valid rows take the next places; if they are more than the slots, the first of them.

        Written with fixed shapes (an unused place gets its old entry back), so that a GPU need not wait for the counts.
        """
        slots = self.rows.shape[1]
        order = valid.byte().sort(dim=1, descending=True, stable=True).indices[:, :slots]
        number = valid.sum(1).clamp_max(order.shape[1])
        step = torch.arange(order.shape[1], device=rows.device)
        slot = ((self.seen.unsqueeze(1) + step) % slots).unsqueeze(2)
        entry = rows.to(self.rows.dtype).take_along_dim(order.unsqueeze(2), 1)
        used = (step < number.unsqueeze(1)).unsqueeze(2)
        self.rows.scatter_(1, slot.expand_as(entry), entry.where(used, self.rows.take_along_dim(slot, 1)))
        self.seen += number


class ClassMemory(nn.Module):
    """Queues of the teacher's pixels and region means, one per class, and the student's projector to their width.

    Args:
        pixel_slots, region_slots: length of the queues, of rows as wide as the teacher's features.
        pixel_anchors, region_anchors: how many to compare with, of all classes together.
        pushed: at most how many pixels of every image and class are stored.
        temperature: of both softmaxes; its square is no factor.
    """

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
    ) -> None:
        super().__init__()
        self.classes, self.pushed, self.temperature = classes, pushed, temperature
        self.project = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.BatchNorm2d(teacher_channels),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        self.pixels = Queue(classes, pixel_slots, teacher_channels, pixel_anchors)
        self.regions = Queue(classes, region_slots, teacher_channels, region_anchors)

    def forward(
        self, student: Feature, teacher: Float[Tensor, "b d y x"], target: Integer[Tensor, "b Y X"]
    ) -> tuple[Scalar, Scalar]:
        """The pixel and the region term against the memory; then this batch is stored too.

        Each is KL(softmax(S^t / T) || softmax(S^s / T)) of the similarities of a position to the anchors, mean over
        the positions that count; 0 where none does or the memory is empty. A class without memory has no anchor.
        """
        own, fixed = matched(student, teacher)
        dtype = wide(student.dtype)
        truth, counted = truth_on_grid(target, self.classes, IGNORE, own.to(dtype))
        own, fixed = (unit(f.to(dtype), 1).flatten(2) for f in (self.project(own), fixed))

        def term(queue: Queue) -> Scalar:
            anchors, filled = queue.anchors()
            lowest = torch.finfo(dtype).min  # of an empty slot, so that its share is 0
            rows = (dots(anchors.to(dtype), f / self.temperature) for f in (own, fixed))
            s, t = (similar.where(filled.unsqueeze(1), lowest) for similar in rows)
            return kd(s, t, valid=counted).to(student.dtype)

        terms = term(self.pixels), term(self.regions)
        self._store(fixed, truth)
        return terms

    @torch.no_grad()
    def _store(self, features: Float[Tensor, "b d n"], truth: Float[Tensor, "b k n"]) -> None:
        """Some pixels of every class and image, and the unit mean of every class in every image (a sum will do)."""
        place, valid = _drawn(truth > 0, self.pushed)
        rows = features.mT.unsqueeze(1).take_along_dim(place.unsqueeze(3), 2)  # B K pushed D
        self.pixels.push(rows.transpose(0, 1).flatten(1, 2), valid.transpose(0, 1).flatten(1))
        self.regions.push(unit(dots(truth, features.mT), 2).transpose(0, 1), truth.any(2).T)


def _drawn(eligible: Bool[Tensor, "*b n"], number: int) -> tuple[Integer[Tensor, "*b m"], Bool[Tensor, "*b m"]]:
    """Random places, the eligible ones first, and whether each is; the CPU's numbers, so that a GPU draws the same."""
    ticket = torch.rand(eligible.shape, device="cpu").to(eligible.device).where(eligible, -1)
    best = ticket.topk(min(number, eligible.shape[-1]))
    return best.indices, best.values >= 0


class CIRKD(OfflineMethod):
    citation = "Yang et al.: Cross-image relational knowledge distillation, CVPR 2022"
    equation = "weights {weights} of KD, batch, pixels, regions"
    fidelity = "exact"
    soft_terms = ("kd",)

    class Options(FeatureOptions):
        weights: tuple[float, float, float, float] = (1.0, 1.0, 0.1, 0.1)
        temperature: float = Field(0.1, gt=0)
        pixels: int = Field(20_000, ge=1)
        regions: int = Field(2_000, ge=1)

    def stage_module(self, own: int, theirs: int) -> nn.Module:
        o = self.options
        return ClassMemory(own, theirs, self.classes, o.pixels, o.regions, temperature=o.temperature)

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        soft = kd(student.log_probabilities, teacher.offered, valid=step.valid)
        found = (soft, *self.loss(name, student, teacher, step).unbind())
        names = ("kd", "batch", "pixels", "regions")
        return {n: w * term for n, w, term in zip(names, self.options.weights, found, strict=True)}

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        batch = cirkd_batch(own, theirs, self.options.temperature)
        return torch.stack([batch, *module(own, theirs, step.target)])
