"""What the tests of the losses feed them: hostile logits and targets, and the reference inputs of methods.md 6."""

import torch
from hypothesis import strategies as st
from torch import Tensor

FLOATS = (torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)
REGIMES = ("random", "confident", "saturated", "tied", "equal", "truth first", "truth last", "barely wrong")


def logits_in(regime: str, target: Tensor, classes: int, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Logits that are random, certain, on a float's limits, tied, or right and wrong everywhere."""
    z = torch.randn(target.shape[0], classes, *target.shape[1:], generator=generator, dtype=torch.float64)
    y = target.where(target < classes, 0).unsqueeze(1)
    match regime:
        case "confident":
            z = 30 * z
        case "saturated":
            z = 1e4 * z.sign()
        case "tied":
            z = z.round().clamp(-1, 1)
        case "equal":
            z = torch.full_like(z, 1e4)
        case "truth first":
            z = z.scatter(1, y, 100.0)
        case "truth last":
            z = z.scatter(1, y, -1e4)
        case "barely wrong":
            z = z.scatter(1, y, z.amax(1, keepdim=True) * (1 - 1e-7))
    return z.to(dtype)


@st.composite
def logits_and_target(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = FLOATS) -> tuple[Tensor, Tensor]:
    """A batch of one to three tiny images of two to five classes, with ignored pixels in some."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
    classes = draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    target = torch.randint(0, classes, shape, generator=generator)
    ignored = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    target = target.masked_fill(ignored, 255)
    return logits_in(draw(st.sampled_from(REGIMES)), target, classes, draw(st.sampled_from(dtypes)), generator), target


def reference() -> tuple[Tensor, Tensor, Tensor]:
    """Student S, teacher T and target Y of methods.md 6, float64."""
    k = torch.arange(2 * 4 * 6 * 5, dtype=torch.float64)
    student = 3 * torch.sin(0.7 * k + 0.3)
    teacher = 3 * torch.cos(0.31 * k) + 0.5 * torch.sin(1.7 * k)
    target = 7 * torch.arange(2 * 6 * 5) // 3 % 4
    return student.view(2, 4, 6, 5), teacher.view(2, 4, 6, 5), target.view(2, 6, 5)


def drawn_batch(classes: int = 4, dtype: torch.dtype = torch.float64, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    """One fixed random batch, 3 x classes x 5 x 4, for the comparisons with naive loops."""
    generator = torch.Generator().manual_seed(7)
    target = torch.randint(0, classes, (3, 5, 4), generator=generator)
    target = target.masked_fill(torch.rand(3, 5, 4, generator=generator) < ignored, 255)
    return 2 * torch.randn(3, classes, 5, 4, generator=generator, dtype=torch.float64).to(dtype), target
