"""`Student`: an encoder and the decoder, from an image to a `Prediction`.

    student = Student("resnet10t", channels=3, classes=2, size=64)
    prediction = student(images)          # .logits B K H W, .features: four maps

A student's weights file (safetensors) carries its `Design`, so that it can be built again from the file alone.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ctrcl.files import UserError, replacing
from ctrcl.models.decoders import Decoder
from ctrcl.models.encoders import Encoder


@dataclass(frozen=True)
class Design:
    """What must be known to build a student: network, input channels, classes, image size, decoder width."""

    network: str
    channels: int
    classes: int
    size: int
    width: int = 64


class Prediction:
    """Logits (B K H W) and the four feature maps; log-softmax and softmax are computed once and shared by all terms."""

    def __init__(self, logits: Float[Tensor, "b k h w"], features: list[Tensor]):
        self.logits = logits
        self.features = features

    @cached_property
    def log_probabilities(self) -> Float[Tensor, "b k h w"]:
        """Log-softmax over classes."""
        return F.log_softmax(self.logits, dim=1)

    @cached_property
    def probabilities(self) -> Float[Tensor, "b k h w"]:
        """Softmax over classes."""
        return self.log_probabilities.exp()

    @cached_property
    def offered(self) -> Float[Tensor, "b k h w"]:
        """The log-probabilities as a peer may see them: without gradient."""
        return self.log_probabilities.detach()


class Student(nn.Module):
    """One network of a method; what is deployed is this and nothing else.

    Args:
        design: what to build.
        pretrained: timm's weights for the encoder; out of reach is a `UserError`.
    """

    def __init__(self, design: Design, pretrained: bool = False):
        super().__init__()
        self.design = design
        self.encoder = Encoder(design.network, design.channels, design.size, pretrained)
        self.decoder = Decoder(self.encoder.widths, design.classes, design.width)
        # measured: ResNets train 1.2 times as fast in this layout on a CPU, Transformers as before
        self.layout = torch.channels_last if design.network.startswith("resnet") else torch.contiguous_format
        self.to(memory_format=self.layout)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Prediction:
        """Logits at the size of the images, in float32 whatever the precision of the network."""
        features = self.encoder(images.contiguous(memory_format=self.layout))
        coarse = self.decoder(features).float()
        logits = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return Prediction(logits, features)


def save(student: Student, path: Path, about: dict[str, str]) -> None:
    """Write weights, design and `about` (plain strings) as safetensors, whole or not at all."""
    save_tensors(student, path, about | {key: str(value) for key, value in asdict(student.design).items()})


def save_tensors(module: nn.Module, path: Path, about: dict[str, str]) -> None:
    """Write a module's tensors as safetensors, whole or not at all."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replacing(path) as draft:
        draft.write_bytes(save(tensors, metadata=about))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Nothing is unpickled; an unreadable file is a `UserError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train first, or name a .safetensors file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no readable safetensors file ({error}); copy it again") from None


def load(path: Path) -> tuple[Student, dict[str, str]]:
    """The student of a weights file, in evaluation mode, and what the file says about itself.

    A file that lacks its design or holds weights of another architecture is a `UserError`.
    """
    tensors, about = load_tensors(path)
    fields: dict[str, Any] = Design.__dataclass_fields__
    if lacking := sorted(set(fields) - set(about)):
        raise UserError(f"{path} lacks {', '.join(lacking)} in its metadata: it is not a student of ctrcl")
    design = Design(**{name: about.pop(name) if name == "network" else int(about.pop(name)) for name in fields})
    student = Student(design)
    try:
        student.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()[:120]
        raise UserError(f"{path} holds weights of another architecture than {design.network} ({first})") from None
    return student.eval(), about


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
