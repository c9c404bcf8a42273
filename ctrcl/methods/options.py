"""What can be set of a method in `params.yaml`, with the values of its paper. Imports no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Stage = Literal[1, 2, 3, 4]  # of the four feature maps, from stride 4 to stride 32
Weight = Field(1.0, ge=0)


class Options(BaseModel):
    """Of every method. `selective` puts the Selective Fusion module into the students' decoders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decoder: Literal["light", "selective"] = "light"


class Exchange(Options):
    """Of every method whose students exchange soft labels: alpha weighs the divergence."""

    alpha: float = Weight
    temperature: float = Field(1.0, gt=0)


class Revised(Exchange):
    """Of label revision."""

    eta: float = Field(0.8, ge=0, le=1)


class Joint(Exchange):
    """Of KDCL: how the one label of all students is made."""

    temperature: float = Field(2.0, gt=0)
    form: Literal["naive", "minlogit", "linear", "general"] = "minlogit"


class Rectified(Exchange):
    """Of CTRCL: alpha weighs RLCL, beta CFCL (0 leaves it out); `stages` count from 1 (stride 4) to 4 (stride 32)."""

    factors: tuple[Literal["alignment", "similarity", "certainty"], ...] = ("alignment", "similarity", "certainty")
    constant: float | None = Field(None, ge=0, le=1)
    beta: float = Weight
    variant: Literal["embedding", "response", "prototype"] = "embedding"
    stages: tuple[Stage, ...] = Field((3, 4), min_length=1)
    dimension: int = Field(64, ge=1)


class Ramp(Options):
    """Of cross teaching: the greatest weight, reached at the end."""

    alpha: float = Field(0.1, ge=0)


class Contrast(Options):
    """Of MCL: weights of VCL, soft VCL, ICL and soft ICL, their temperatures, the pixels of each class in a step."""

    weights: tuple[float, float, float, float] = (0.1, 1.0, 0.1, 1.0)
    temperature: float = Field(0.1, gt=0)
    kd_temperature: float = Field(3.0, gt=0)
    stages: tuple[Stage, ...] = Field((3,), min_length=1)
    dimension: int = Field(128, ge=1)
    pixels: int = Field(32, ge=1)


class Adversarial(Exchange):
    """Of AFD: beta weighs the features' game. At 1 it drowned the segmentation of the drawn validation images."""

    beta: float = Field(0.1, ge=0)
    stages: tuple[Stage, ...] = Field((3,), min_length=1)


class Heterogeneous(Exchange):
    """Of HFD + BSD: alpha weighs the selective soft labels, beta the low-layer mimicry; regions of `cell` pixels.

    At beta = 1 the mimicry drowned the segmentation of the drawn validation images.
    """

    beta: float = Field(0.1, ge=0)
    stages: tuple[Stage, ...] = Field((1,), min_length=1)
    cell: int = Field(16, ge=1)


class Taught(Options):
    """Of every method with frozen teachers.

    `cross`: the CNN learns from the Transformer and the Transformer from the CNN; `same`: each from its own kind.
    """

    pairing: Literal["cross", "same"] = "cross"
    weight: float = Weight


class Softened(Taught):
    """Of KD."""

    temperature: float = Field(2.0, gt=0)


class Decoupled(Taught):
    """Of DKD: weights of the target class and of the others."""

    weight: float = Field(0.1, ge=0)
    alpha: float = Weight
    beta: float = Field(8.0, ge=0)
    temperature: float = Field(4.0, gt=0)


class Relational(Taught):
    """Of DIST."""

    temperature: float = Field(1.0, gt=0)


class Channelwise(Taught):
    """Of CWD on logits."""

    weight: float = Field(3.0, ge=0)
    temperature: float = Field(4.0, gt=0)


class Featured(Taught):
    """Of methods on feature maps: which stages, the mean over them."""

    stages: tuple[Stage, ...] = Field((3,), min_length=1)


class Attentive(Featured):
    """Of AT; the usual weights are 1000 for the form of the code and 10 for that of the paper."""

    weight: float = Field(1000.0, ge=0)
    form: Literal["code", "paper"] = "code"


class Hinted(Featured):
    """Of FitNet."""

    weight: float = Field(10.0, ge=0)


class Structured(Featured):
    """Of SKD: weights of the pixels, of the pairs and of the critic."""

    weights: tuple[float, float, float] = (10.0, 0.5, 0.1)
    scale: float = Field(0.5, gt=0, le=1)


class Varied(Featured):
    """Of IFVD."""

    weight: float = Field(20.0, ge=0)


class Remembered(Featured):
    """Of CIRKD: weights of KD, batch, pixels and regions of the memory; its queues, per class."""

    weights: tuple[float, float, float, float] = (1.0, 1.0, 0.1, 0.1)
    temperature: float = Field(0.1, gt=0)
    pixels: int = Field(20_000, ge=1)
    regions: int = Field(2_000, ge=1)


class Generated(Featured):
    """Of MGD: the weight of its sum of squares, and the share of positions that is dropped."""

    weight: float = Field(2e-5, ge=0)
    dropped: float = Field(0.75, ge=0, lt=1)


class Efficient(Featured):
    """Of EMKD: weights of KD, importance maps and region affinity."""

    weights: tuple[float, float, float] = (0.1, 0.9, 0.9)
    temperature: float = Field(4.0, gt=0)


class Curriculum(Taught):
    """Of CTKD: epochs until the temperature's reversal has its full strength."""

    epochs: int = Field(10, ge=1)


class RectifiedOffline(Rectified):
    """Of CTRCL with frozen teachers."""

    pairing: Literal["cross", "same"] = "cross"


class SelfDistilled(Options):
    """Of ACW-SKD: alpha weighs the divergence of the auxiliary logits, beta the features' terms."""

    alpha: float = Weight
    beta: float = Weight
    stages: tuple[Stage, ...] = Field((3,), min_length=1)
    dimension: int = Field(64, ge=2)
    epochs: int = Field(10, ge=1)


class Dual(Options):
    """Of dual distillation: alpha weighs both teachers' logits, beta MPD."""

    decoder: Literal["light", "selective"] = "selective"
    alpha: float = Weight
    beta: float = Weight
    temperature: float = Field(2.0, gt=0)
