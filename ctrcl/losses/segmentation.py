"""The supervised loss of every student: cross-entropy plus Dice, equal weights; fidelity `exact`.

L_seg of CTRCL (Wu et al., arXiv 2408.13698). The one Dice of this project is that of Milletari, Navab, Ahmadi:
"V-Net", 3DV 2016 (MONAI: `DiceLoss(softmax=True, squared_pred=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)`).
"""

from ctrcl.losses.targets import IGNORE, Logits, Scalar, Target, class_index, mean_where, one_hot, wide


def segmentation(
    logits: Logits,
    target: Target,
    ignore: int = IGNORE,
    probabilities: Logits | None = None,
    cross_entropy: float = 1.0,
) -> Scalar:
    """L_seg = CE + Dice, from one log-softmax; takes logits or log-probabilities alike.

    Args:
        probabilities: if the caller has them already; then `logits` are log-probabilities and used as they are.
        cross_entropy: weight of CE, 1 in the paper.
    """
    log_probabilities = logits.log_softmax(1) if probabilities is None else logits
    p = log_probabilities.exp() if probabilities is None else probabilities
    return cross_entropy * _negative_log_likelihood(log_probabilities, target, ignore) + dice(p, target, ignore)


def cross_entropy(logits: Logits, target: Target, ignore: int = IGNORE) -> Scalar:
    """Mean of -ln p_y over the pixels that count; 0, not NaN, where none does. Takes log-probabilities as well."""
    return _negative_log_likelihood(logits.log_softmax(1), target, ignore)


def dice(probabilities: Logits, target: Target, ignore: int = IGNORE, smooth: float = 1e-5) -> Scalar:
    """One minus the Dice index with squared denominators, mean over classes with background, over the whole batch.

    Args:
        probabilities: softmax output, B K H W (or B K D H W).
        target: class index per pixel; `ignore` is left out of every sum.
        smooth: added above and below, so that a class that is nowhere and predicted nowhere costs nothing.

    Returns:
        A scalar in [0, 1], of the probabilities' dtype.
    """
    p = probabilities.to(wide(probabilities.dtype))  # 1 / smooth is no half precision number
    truth, counted = one_hot(target, p.shape[1], ignore, p.dtype)
    p = p.where(counted, 0)
    over = (0, *range(2, p.ndim))  # batch and space; classes stay apart
    hit = (p * truth).sum(over)
    size = p.square().sum(over) + truth.sum(over)  # zeros and ones are their own squares
    index = (2 * hit + smooth) / (size + smooth)  # V-Net, section 3
    return (1 - index).mean().to(probabilities.dtype)


def _negative_log_likelihood(log_probabilities: Logits, target: Target, ignore: int) -> Scalar:
    index, counted = class_index(target, ignore)
    return mean_where(-log_probabilities.gather(1, index), counted)
