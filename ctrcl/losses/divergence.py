"""KL divergence from a soft label, as in DML and CTRCL, and knowledge distillation (KD) built on it; fidelity `exact`.

The label or teacher is a constant. Where no pixel counts, a loss is 0 and its gradient finite.
"""

import torch

from ctrcl.losses.targets import Logits, Scalar, Valid, mean_where, wide


def kl(label: Logits, log_probabilities: Logits, valid: Valid | None = None) -> Scalar:
    """KL(label || p), summed over classes, mean over pixels and batch (Zhang et al., CVPR 2018, equation 5).

    Args:
        label: probabilities of the peer or teacher; no gradient flows into it.
        log_probabilities: log-softmax of the student's logits, at the label's temperature.
        valid: pixels that count, all by default; the mean runs over these, 0 where there is none.

    Returns:
        A scalar of the student's dtype. 0 ln 0 is 0, also where both sides have a zero.
    """
    label = label.detach().to(log_probabilities.dtype)
    lowest = torch.finfo(label.dtype).min  # stands for ln 0, so that its product with 0 is 0
    ratio = label.log().clamp_min_(lowest).sub_(log_probabilities.clamp_min(lowest))  # ln(label / p)
    per_pixel = ratio.mul_(label).sum(1)  # DML, equation 5; in place, for large tensors cost their allocation
    return mean_where(per_pixel, valid)


def kd(student: Logits, teacher: Logits, temperature: float = 1.0, valid: Valid | None = None) -> Scalar:
    """T^2 KL(p_t || p_s) of the two softmaxes at temperature T, mean over the pixels that count (arXiv 1503.02531)."""
    log_p = softened(student.to(wide(student.dtype)), temperature).log_softmax(1)
    label = softened(teacher.detach().to(log_p.dtype), temperature).softmax(1)
    return (temperature**2 * kl(label, log_p, valid)).to(student.dtype)  # KD, section 2


def softened(logits: Logits, temperature: float) -> Logits:
    """Logits divided by a temperature."""
    return logits if temperature == 1 else logits / temperature
