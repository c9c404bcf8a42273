"""What the tests of the losses feed them: extreme logits and targets, and the reference inputs of methods.md 6."""

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
def logits_and_target(
    draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = FLOATS, regimes: tuple[str, ...] = REGIMES
) -> tuple[Tensor, Tensor]:
    """A batch of one to three tiny images of two to five classes, with ignored pixels in some."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
    classes = draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    target = torch.randint(0, classes, shape, generator=generator)
    ignored = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    target = target.masked_fill(ignored, 255)
    return logits_in(draw(st.sampled_from(regimes)), target, classes, draw(st.sampled_from(dtypes)), generator), target


@st.composite
def students_and_target(
    draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = FLOATS, regimes: tuple[str, ...] = REGIMES
) -> tuple[list[Tensor], Tensor]:
    """The logits of two students, each in a regime of its own, on a batch as in `logits_and_target`."""
    first, target = draw(logits_and_target(dtypes, regimes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    second = logits_in(draw(st.sampled_from(regimes)), target, first.shape[1], first.dtype, generator)
    return [first, second], target


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


def drawn_students(number: int = 2, classes: int = 4, ignored: float = 0.2) -> tuple[list[Tensor], Tensor]:
    """The target of `drawn_batch` and the fixed random logits of several students, who lean towards it."""
    _, target = drawn_batch(classes, ignored=ignored)
    truth = torch.nn.functional.one_hot(target.where(target != 255, 0), classes).movedim(-1, 1)
    generator = torch.Generator().manual_seed(11)
    noise = torch.randn(number, *truth.shape, generator=generator, dtype=torch.float64)
    return list(2 * noise + truth), target


def reference_features() -> tuple[Tensor, Tensor]:
    """Features of student and teacher of methods.md 6, 2 x 8 x 6 x 5, float64."""
    q = torch.arange(2 * 8 * 6 * 5, dtype=torch.float64)
    student = torch.sin(0.37 * q + 0.2) + 0.1 * torch.cos(0.05 * q)
    teacher = torch.cos(0.23 * q) + 0.2 * torch.sin(1.1 * q)
    return student.view(2, 8, 6, 5), teacher.view(2, 8, 6, 5)


def drawn_features(channels: int = 3, size: tuple[int, int] = (4, 3), seed: int = 0, images: int = 3) -> Tensor:
    """One fixed random feature map, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, channels, *size, generator=generator, dtype=torch.float64)


def spotted_target() -> Tensor:
    """Three images of 4 x 3 in four classes: two classes, one of a single pixel, and 255; one class; nothing."""
    y = torch.zeros(3, 4, 3, dtype=torch.long)
    y[0, 2, 1], y[0, 0] = 2, 255
    y[1] = 1
    y[2] = 255
    return y


@st.composite
def features_and_target(
    draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = FLOATS
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Features of a student and a teacher of any grids, large, small or dead, a target and the number of classes."""
    images, classes = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    shapes = [draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))) for _ in range(2)]
    generator, dtype = torch.Generator().manual_seed(draw(st.integers(0, 2**31))), draw(st.sampled_from(dtypes))
    maps = []
    for shape in shapes:
        feature = torch.randn(images, *shape, generator=generator) * draw(st.sampled_from([1.0, 1e-3, 1e4, 0.0]))
        feature *= torch.rand(images, 1, *shape[1:], generator=generator) < draw(st.sampled_from([1.0, 0.5]))
        maps.append(feature.to(dtype))
    target = torch.randint(0, classes, (images, 6, 7), generator=generator)
    target[torch.rand(target.shape, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 255
    return *maps, target, classes
