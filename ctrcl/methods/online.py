"""Online methods that exchange more than a soft label: cross teaching, MCL, AFD, HFD + BSD.

- Cross teaching: Luo, Hu, Song, Wang, Zhang: "Semi-supervised medical image segmentation via cross teaching between
  CNN and Transformer", MIDL 2022; `exact`, used here on labelled images.
- MCL: Yang, An, Cai, Xu: "Mutual contrastive learning for visual representation learning", AAAI 2022; `exact` for
  the terms. Ours: the features (stage 3), the heads (1x1, ReLU, 1x1 to 128 numbers), and that the same at most 32
  pixels of every class are drawn from the whole batch for both students.
- AFD: Chung, Park, Kim, Kwak: "Feature-map-level online adversarial knowledge distillation", ICML 2020; `formula`.
  Ours: the stage (3), a 1x1 transfer to the other's channels, one backward for both players (`adversarial.frozen`),
  the game's weight 0.1.
- HFD + BSD: Zhu, Luo, Zheng, Wang, Wang: "A good student is cooperative and reliable", ICCV 2023 (arXiv
  2307.12574); `interpretation`. Known: low-layer features mimic each other, and logits pass only from the better
  student to the worse, per region and per pixel. Ours: stage 1 through a 1x1 convolution, squared distance of the
  vectors at unit length, weight 0.1; better is who has the lower cross-entropy; regions are squares of 16 pixels;
  the mean of both levels, weight 1.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.losses import soft_labels
from ctrcl.losses.adversarial import Discriminator, frozen, lsgan_discriminator, lsgan_generator
from ctrcl.losses.features import Projection, fitnet, matched, mcl
from ctrcl.losses.relations import regrid
from ctrcl.losses.segmentation import dice
from ctrcl.losses.targets import IGNORE, reduce_to
from ctrcl.methods.collaborative import towards
from ctrcl.methods.objective import PAIRS, Shape, Step
from ctrcl.methods.options import Adversarial, Contrast, Heterogeneous, Ramp


class CrossTeaching(nn.Module):
    """Dice against the peer's hard prediction, with a weight that grows to alpha: alpha e^(-5 (1 - t)^2)."""

    def __init__(self, options: Ramp, shape: Shape):
        super().__init__()
        self.options = options

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`pseudo_a`, `pseudo_b`."""
        weight = self.options.alpha * math.exp(-5 * (1 - step.done) ** 2)  # lambda(t)
        terms = {}
        for name, peer in PAIRS:
            hard = step.predictions[peer].offered.argmax(1).where(step.valid, IGNORE)
            terms[f"pseudo_{name}"] = weight * dice(step.predictions[name].probabilities, hard)
        return terms


class Contrastive(nn.Module):
    """MCL: pixels of a class are alike within and across the students; both sides learn."""

    def __init__(self, options: Contrast, shape: Shape):
        super().__init__()
        self.options, self.classes = options, shape.classes
        self.stages = [stage - 1 for stage in options.stages]
        width = options.dimension
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    nn.Sequential(nn.Conv2d(channels[s], width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
                    for s in self.stages
                )
                for name, channels in shape.widths.items()
            }
        )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`vcl`, `soft_vcl`, `icl`, `soft_icl`: of both students together."""
        found = [self.stage(number, step) for number in range(len(self.stages))]
        names = ("vcl", "soft_vcl", "icl", "soft_icl")
        means = [torch.stack(parts).mean() for parts in zip(*found, strict=True)]
        return {n: w * mean for n, w, mean in zip(names, self.options.weights, means, strict=True)}

    def stage(self, number: int, step: Step) -> tuple[Tensor, ...]:
        """MCL's four terms on the pixels drawn in one stage."""
        heads: Any = self.heads
        features = regrid(*(seen.features[self.stages[number]] for seen in step.predictions.values()))
        target = reduce_to(step.target, (features[0].shape[2], features[0].shape[3])).flatten()
        chosen = drawn(target, self.classes, self.options.pixels)
        embeddings = []
        for name, feature in zip(step.predictions, features, strict=True):
            rows = heads[name][number](feature).float().permute(0, 2, 3, 1).flatten(0, 2)
            embeddings.append(functional.normalize(rows[chosen], dim=1))
        return mcl(embeddings, target[chosen], self.options.temperature, self.options.kd_temperature)


def drawn(target: Tensor, classes: int, most: int) -> Tensor:
    """Positions of at most `most` pixels of every class, drawn by the CPU's generator, so that a GPU draws the same."""
    order = torch.randperm(len(target)).to(target.device)
    shuffled = target[order]
    return torch.cat([order[shuffled == k][:most] for k in range(classes)])


class FeatureGame(nn.Module):
    """AFD's game: a student's features, transferred to its peer's channels, try to pass for the peer's own.

    One discriminator per student, which is shown that student's features as true and the other's as false.
    """

    def __init__(self, options: Adversarial, shape: Shape):
        super().__init__()
        self.options = options
        self.stages = [stage - 1 for stage in options.stages]
        widths = {name: [channels[s] for s in self.stages] for name, channels in shape.widths.items()}
        self.judges = nn.ModuleDict({n: nn.ModuleList(Discriminator(w) for w in widths[n]) for n in widths})
        self.transfers = nn.ModuleDict(
            {
                n: nn.ModuleList(Projection(w, v) for w, v in zip(widths[n], widths[peer], strict=True))
                for n, peer in PAIRS
            }
        )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`adversarial_a` (the student's part) and `discriminator_a` (that of the judge of a), and the same of b."""
        modules: Any = self
        lost: dict[str, list[Tensor]] = {}
        for name, peer in PAIRS:
            for number, stage in enumerate(self.stages):
                judge = modules.judges[peer][number]
                false = modules.transfers[name][number](step.predictions[name].features[stage])
                true = step.predictions[peer].features[stage].detach()
                lost.setdefault(f"adversarial_{name}", []).append(lsgan_generator(frozen(judge, false)))
                scores = judge(true), judge(false.detach())
                lost.setdefault(f"discriminator_{peer}", []).append(lsgan_discriminator(*scores))
        return {name: self.options.beta * torch.stack(parts).mean() for name, parts in lost.items()}


class Selective(nn.Module):
    """HFD + BSD: low-layer features mimic each other; labels pass from the better student to the worse."""

    def __init__(self, options: Heterogeneous, shape: Shape):
        super().__init__()
        self.options = options
        self.stages = [stage - 1 for stage in options.stages]
        self.project = nn.ModuleDict(
            {
                n: nn.ModuleList(Projection(shape.widths[n][s], shape.widths[peer][s]) for s in self.stages)
                for n, peer in PAIRS
            }
        )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`mimicry_a`, `pixels_a`, `regions_a` and the same of b."""
        terms = {}
        for name, peer in PAIRS:
            own, other = step.predictions[name], step.predictions[peer]
            terms[f"mimicry_{name}"] = self.options.beta * self.mimicry(name, own.features, other.features)
            label = soft_labels.dml(other.offered, temperature=self.options.temperature)
            for level, cell in (("pixels", 1), ("regions", self.options.cell)):
                teaches = soft_labels.better(own.offered, other.offered, step.target, cell)
                terms[f"{level}_{name}"] = towards(label * teaches.unsqueeze(1), own, self.options, step) / 2
        return terms

    def mimicry(self, name: str, own: list[Tensor], peer: list[Tensor]) -> Tensor:
        """Squared distance of unit vectors, mean over positions and stages."""
        modules: Any = self.project[name]
        found = []
        for project, stage in zip(modules, self.stages, strict=True):
            a, b = matched(project(own[stage]), peer[stage])
            unit = [functional.normalize(x.float(), dim=1, eps=1e-3) for x in (a, b)]
            found.append(a.shape[1] * fitnet(*unit))
        return torch.stack(found).mean()
