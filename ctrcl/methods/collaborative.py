"""Two students on one batch: each learns from the truth and, where the method says so, from its peer.

    L = sum over students of L_seg + alpha L_rlcl + beta L_cfcl          (CTRCL, Wu et al. 2024; DML: beta = 0)

Written once for all online logit methods: they differ in the soft label that is offered (`losses/soft_labels.py`).
Training alone is the method that offers nothing: both students still see the same batches, so that with equal seeds
every method starts from the same weights and reads the same images.
"""

import functools
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from ctrcl.losses import soft_labels
from ctrcl.losses.class_aware import CategoryPerception, Perception, cfcl
from ctrcl.losses.logits import kl
from ctrcl.losses.segmentation import segmentation
from ctrcl.losses.targets import IGNORE
from ctrcl.methods import Exchange, Method, Options, Rectified
from ctrcl.models.students import Prediction


class Collaborative(nn.Module):
    """Named, weighted terms of both students; the loss is their sum. Its parameters (CPMs) live only in training."""

    def __init__(self, method: Method, options: Options, widths: dict[str, list[int]], classes: int):
        super().__init__()
        self.alpha = self.beta = 0.0
        if isinstance(options, Exchange) and options.alpha > 0:
            chosen = options.model_dump(include={"factors", "constant", "temperature"})
            self.alpha, self.temperature = options.alpha, options.temperature
            self.offer = functools.partial(getattr(soft_labels, method.offer or ""), **chosen)
        if isinstance(options, Rectified) and options.beta > 0:
            self.beta, self.stages = options.beta, [stage - 1 for stage in options.stages]
            self.perception = nn.ModuleDict(
                {
                    name: nn.ModuleList(
                        CategoryPerception(channels[stage], classes, options.dimension) for stage in self.stages
                    )
                    for name, channels in widths.items()
                }
            )

    def forward(self, predictions: dict[str, Prediction], target: Int[Tensor, "b h w"]) -> dict[str, Tensor]:
        """Terms by name, e.g. `seg_a`, `rlcl_b`, `cfcl_a`; weights included."""
        terms = {f"seg_{name}": segmentation(seen.log_probabilities, target) for name, seen in predictions.items()}
        if self.alpha:
            terms |= self.exchanged(predictions, target)
        if self.beta:
            terms |= self.perceived(predictions, target)
        return terms

    def exchanged(self, predictions: dict[str, Prediction], target: Tensor) -> dict[str, Tensor]:
        """alpha T^2 KL(offered label || own softmax at T), each from its peer, over the pixels that count."""
        valid = target != IGNORE
        terms = {}
        for name, peer in (("a", "b"), ("b", "a")):
            label = self.offer(predictions[peer].offered, target)
            own = predictions[name].log_probabilities
            if self.temperature != 1:
                own = (own / self.temperature).log_softmax(1)
            terms[f"logits_{name}"] = self.alpha * self.temperature**2 * kl(label, own, valid)
        return terms

    def perceived(self, predictions: dict[str, Prediction], target: Tensor) -> dict[str, Tensor]:
        """beta L_cfcl: alignment of the class embeddings and supervision of the class maps, mean over stages."""
        seen = {name: self.perceive(name, prediction) for name, prediction in predictions.items()}
        parts = cfcl(seen["a"], seen["b"], target)
        return {name: self.beta * term for name, term in parts._asdict().items()}

    def perceive(self, name: str, prediction: Prediction) -> list[Perception]:
        """What a student's CPMs see in its stages (class maps and class embeddings)."""
        modules: Any = self.perception[name]
        return [cpm(prediction.features[stage]) for cpm, stage in zip(modules, self.stages, strict=True)]
