"""How a student is pulled towards a soft label or a teacher; the labels of peers are made in `soft_labels.py`.

- `kl`: Zhang, Xiang, Hospedales, Lu: "Deep mutual learning", CVPR 2018, equation 5; fidelity `exact`. CTRCL's L_rlcl
  (Wu et al., arXiv 2408.13698, section 1.1 of our notes) is the same divergence with a rectified label.
- `kd`: Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", arXiv 1503.02531, 2015; `exact`.
- `dkd`: Zhao, Cui, Song, Qiu, Liang: "Decoupled knowledge distillation", CVPR 2022; `exact`.
- `dist`: Huang, You, Wang, Qian, Xu: "Knowledge distillation from a stronger teacher", NeurIPS 2022; `exact`.
- `cwd`: Shu, Liu, Gao, Yan, Shen: "Channel-wise knowledge distillation for dense prediction", ICCV 2021; `exact`.
- `skd_pixel`: Liu, Chen, Liu, Qin, Luo, Wang: "Structured knowledge distillation for semantic segmentation", CVPR
  2019, the pixel-wise term as the authors' code has it; `exact`.

The teacher is a constant everywhere. Both arguments are logits or log-probabilities, B K H W or B K D H W. Where no
pixel counts, a loss is 0 and its gradient finite.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from ctrcl.losses.targets import IGNORE, class_index, mean_where, wide


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


def kd(
    student: Float[Tensor, "b k *hw"],
    teacher: Float[Tensor, "b k *hw"],
    temperature: float = 1.0,
    valid: Bool[Tensor, "b *hw"] | None = None,
) -> Float[Tensor, ""]:
    """T^2 KL(p_t || p_s) of the two softmaxes at temperature T, mean over the pixels that count."""
    log_p = _softened(student.to(wide(student.dtype)), temperature).log_softmax(1)
    label = _softened(teacher.detach().to(log_p.dtype), temperature).softmax(1)
    return (temperature**2 * kl(label, log_p, valid)).to(student.dtype)  # KD, section 2


def ctkd(
    student: Float[Tensor, "b k *hw"],
    teacher: Float[Tensor, "b k *hw"],
    temperature: Float[Tensor, ""],
    valid: Bool[Tensor, "b *hw"] | None = None,
) -> Float[Tensor, ""]:
    """`kd` at a live temperature, whose gradient also comes from the teacher's softmax and from tau^2.

    Li et al., "Curriculum temperature for knowledge distillation", AAAI 2023; fidelity `exact`.
    """
    dtype = wide(student.dtype)
    log_p = (student.to(dtype) / temperature).log_softmax(1)
    log_q = (teacher.detach().to(dtype) / temperature).log_softmax(1)
    per_pixel = (log_q.exp() * (log_q - log_p)).sum(1)
    return (temperature**2 * mean_where(per_pixel, valid)).to(student.dtype)


def dkd(
    student: Float[Tensor, "b k *hw"],
    teacher: Float[Tensor, "b k *hw"],
    target: Integer[Tensor, "b *hw"],
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    ignore: int = IGNORE,
) -> Float[Tensor, ""]:
    """T^2 [alpha KL(b_t || b_s) + beta KL(q_t || q_s)], mean over the pixels that count.

    b = [p_y, 1 - p_y] says how sure the network is of the true class, q is the softmax over the other classes. With
    two classes q is 1 on both sides: the second part and its gradient are exactly zero.
    """
    index, counted = class_index(target, ignore)
    valid = counted.squeeze(1)
    b_s, q_s = _decoupled(_softened(student.to(wide(student.dtype)), temperature), index)
    b_t, q_t = _decoupled(_softened(teacher.detach().to(b_s.dtype), temperature), index)
    target_part, other_part = kl(b_t.exp(), b_s, valid), kl(q_t.exp(), q_s, valid)
    return (temperature**2 * (alpha * target_part + beta * other_part)).to(student.dtype)  # DKD, equation 7


def dist(
    student: Float[Tensor, "b k *hw"],
    teacher: Float[Tensor, "b k *hw"],
    temperature: float = 1.0,
    valid: Bool[Tensor, "b *hw"] | None = None,
) -> Float[Tensor, ""]:
    """T^2 [1 - Pearson per pixel over classes + 1 - Pearson per class over all pixels of the batch], both means.

    Correlated are the softmaxes at temperature T. With two classes the correlation within a pixel is 1 or -1, so the
    first part has no gradient. A row that does not vary, as of a single pixel, correlates 0 and costs T^2.
    """
    dtype = wide(student.dtype)
    p_s, p_t = (_softened(z.to(dtype), temperature).softmax(1).flatten(2) for z in (student, teacher.detach()))
    inter = mean_where(1 - _pearson(p_s, p_t, (1,)), None if valid is None else valid.flatten(1))
    intra = (1 - _pearson(p_s, p_t, (0, 2), valid)).mean()
    if valid is not None:
        intra = intra.where(valid.any(), 0)
    return (temperature**2 * (inter + intra)).to(student.dtype)  # DIST: inter-class plus intra-class relation


def cwd(
    student: Float[Tensor, "b k *hw"],
    teacher: Float[Tensor, "b k *hw"],
    temperature: float = 4.0,
    valid: Bool[Tensor, "b *hw"] | None = None,
) -> Float[Tensor, ""]:
    """T^2 KL(phi_t || phi_s) of softmaxes over the positions of a channel, mean over channels and batch.

    Positions that do not count have no part in the softmax; an image without any that counts costs nothing.
    """
    s, t = (_softened(z.to(wide(student.dtype)), temperature).flatten(2).mT for z in (student, teacher.detach()))
    if valid is not None:
        lowest = torch.finfo(s.dtype).min  # not -inf, whose softmax is NaN where nothing counts
        s, t = (z.where(valid.flatten(1).unsqueeze(2), lowest) for z in (s, t))
    return (temperature**2 * kl(t.softmax(1), s.log_softmax(1))).to(student.dtype)  # CWD: T^2 / C sum over positions


def skd_pixel(
    student: Float[Tensor, "b k *hw"],
    teacher: Float[Tensor, "b k *hw"],
    valid: Bool[Tensor, "b *hw"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy -p_t ln p_s, summed over classes, pixels and batch, divided by the pixels of one image.

    So it grows with the batch, as the authors' code does. A pixel that does not count contributes 0.
    """
    dtype = wide(student.dtype)
    log_p = student.to(dtype).log_softmax(1).clamp_min(torch.finfo(dtype).min)
    per_pixel = -(teacher.detach().to(dtype).softmax(1) * log_p).sum(1)  # -p_t ln p_s
    if valid is not None:
        per_pixel = per_pixel.where(valid, 0)
    return (per_pixel.sum() / per_pixel[0].numel()).to(student.dtype)  # SKD, pixel-wise: over H W, not over B


def _softened(logits: Float[Tensor, "b k *hw"], temperature: float) -> Float[Tensor, "b k *hw"]:
    return logits if temperature == 1 else logits / temperature


def _decoupled(
    logits: Float[Tensor, "b k *hw"], index: Integer[Tensor, "b 1 *hw"]
) -> tuple[Float[Tensor, "b 2 *hw"], Float[Tensor, "b k *hw"]]:
    """Logarithms of [p_y, 1 - p_y] and of the softmax over k != y, where class y stands with -inf."""
    others = logits.scatter(1, index, -torch.inf)
    pair = torch.cat([logits.gather(1, index), others.logsumexp(1, keepdim=True)], 1)
    return pair.log_softmax(1), others.log_softmax(1)


def _pearson(
    x: Float[Tensor, "b k n"],
    y: Float[Tensor, "b k n"],
    over: tuple[int, ...],
    valid: Bool[Tensor, "b *hw"] | None = None,
) -> Float[Tensor, "*rest"]:
    """Correlation over some dimensions, of the pixels that count; 0 where one side is constant."""
    if valid is None:
        x, y = (v - v.mean(over, keepdim=True) for v in (x, y))
    else:
        counted = valid.flatten(1).unsqueeze(1).to(x.dtype)
        number = counted.sum(over, keepdim=True).clamp_min(1)
        x, y = ((v - (v * counted).sum(over, keepdim=True) / number) * counted for v in (x, y))
    # not `vector_norm`, which takes 30 times as long over a dimension that is not the last
    squares = [v.square().sum(over).clamp_min(1e-16) for v in (x, y)]
    return (x * y).sum(over) / (squares[0] * squares[1]).sqrt()
