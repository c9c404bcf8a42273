"""How a student is pulled towards a soft label; the label itself is made in `soft_labels.py`.

Zhang, Xiang, Hospedales, Lu: "Deep mutual learning", CVPR 2018, equation 5; fidelity `exact`. CTRCL's L_rlcl
(Wu et al., arXiv 2408.13698, section 1.1 of our notes) is the same divergence with a rectified label.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ctrcl.losses.targets import mean_where


def kl(
    label: Float[Tensor, "b k *hw"],
    log_probabilities: Float[Tensor, "b k *hw"],
    valid: Bool[Tensor, "b *hw"] | None = None,
) -> Float[Tensor, ""]:
    """KL(label || p), summed over classes, mean over pixels and batch.

    Args:
        label: probabilities that the peer or teacher offers; a constant, no gradient flows into it.
        log_probabilities: log-softmax of the student's logits. Where the label was softened with a temperature T,
            the log-softmax of logits / T; the caller multiplies the result by T squared if its method does.
        valid: pixels that count, all by default; the mean runs over these, 0 where there is none.

    Returns:
        A scalar of the student's dtype. 0 ln 0 is 0, also where both sides have a zero.
    """
    label = label.detach().to(log_probabilities.dtype)
    lowest = torch.finfo(label.dtype).min  # stands for ln 0, so that its product with 0 is 0
    ratio = label.log().clamp_min_(lowest).sub_(log_probabilities.clamp_min(lowest))  # ln(label / p)
    per_pixel = ratio.mul_(label).sum(1)  # DML, equation 5; in place, for large tensors cost their allocation
    return mean_where(per_pixel, valid)
