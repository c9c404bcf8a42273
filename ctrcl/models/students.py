"""`Student`: a timm encoder and our decoder, or a whole network from MONAI, from an image to a `Prediction`.

    student = Student("resnet10t", channels=3, classes=2, size=64)
    prediction = student(images)          # .logits B K H W, .features: four maps

A student's weights file (safetensors) carries its `Design`, so that it can be built again from the file alone.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ctrcl.io import UserError, replacing
from ctrcl.models.decoders import Decoder
from ctrcl.models.encoders import Encoder
from ctrcl.models.networks import NETWORKS, Network

DECODERS = ("light", "selective")


@dataclass(frozen=True)
class Design:
    """What must be known to build a student.

    Network (timm's name or one of `networks.NETWORKS`), input channels, classes, image size, the decoder's width (for
    MONAI's networks: what scales them), and the decoder: "light", or "selective" with `SelectiveFusion`.
    """

    network: str
    channels: int
    classes: int
    size: int
    width: int = 64
    decoder: str = "light"

    def __post_init__(self):
        if self.decoder not in DECODERS:
            raise UserError(f"unknown decoder {self.decoder!r}; choose one of {', '.join(DECODERS)}")


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
    """One network of a method; what is deployed is this and nothing else. `widths` are the channels of its features.

    `pretrained`: timm's weights for the encoder; out of reach is a `UserError`.
    """

    def __init__(self, design: Design, pretrained: bool = False):
        super().__init__()
        self.design = design
        if design.network in NETWORKS:
            if pretrained or design.decoder != "light":
                wrong = "has no pretrained weights" if pretrained else f"has its own decoder, not {design.decoder!r}"
                raise UserError(f"{design.network} {wrong}; choose a timm network, or change the settings")
            self.network = Network(design.network, design.channels, design.classes, design.size, design.width)
            self.widths = self.network.widths
        else:
            self.encoder = Encoder(design.network, design.channels, design.size, pretrained)
            self.widths = self.encoder.widths
            self.decoder = Decoder(self.widths, design.classes, design.width, fusion=design.decoder == "selective")
        self.to(memory_format=self.layout)

    @property
    def layout(self) -> torch.memory_format:
        """Measured on a CPU: these train 1.1 to 1.3 times as fast with channels last, but slower at 64 pixels."""
        faster = self.design.network.startswith(("resnet", "mobilenet", "monai/BasicUNetPlusPlus"))
        return torch.channels_last if faster and self.design.size > 64 else torch.contiguous_format

    def forward(self, images: Float[Tensor, "b c h w"]) -> Prediction:
        """Logits at the size of the images, in float32 whatever the precision of the network."""
        images = images.contiguous(memory_format=self.layout)
        if self.design.network in NETWORKS:
            logits, features = self.network(images)
            return Prediction(logits.float(), features)
        features = self.encoder(images)
        coarse = self.decoder(features).float()
        logits = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return Prediction(logits, features)


class Teacher:
    """A frozen student in evaluation mode. No module, so that no optimiser, checkpoint or `train()` reaches it."""

    def __init__(self, student: Student):
        self.student = student.eval().requires_grad_(False)
        self.widths = student.widths

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b c h w"]) -> Prediction:
        """The student's prediction, a constant."""
        return self.student(images)


def save(student: Student, path: Path, about: dict[str, Any]) -> None:
    """Write weights, design and `about` as safetensors, whole or not at all."""
    save_tensors(student, path, {**about, "design": asdict(student.design)})


def save_tensors(module: nn.Module, path: Path, about: dict[str, Any]) -> None:
    """Write a module's tensors as safetensors, whole or not at all. Equal weights are equal bytes."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    # one entry, because safetensors writes several in no fixed order
    metadata = {"ctrcl": json.dumps(about, sort_keys=True)}
    with replacing(path) as draft:
        draft.write_bytes(save(tensors, metadata=metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a safetensors file and its metadata. Nothing is unpickled.

    A file that cannot be read or was not written by `save_tensors` is a `UserError`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("ctrcl", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train first, or name a .safetensors file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no readable safetensors file ({error}); copy it again") from None
    if about is None:
        raise UserError(f"{path} was not written by ctrcl (its metadata lack `ctrcl`); name the weights of a student")
    return tensors, about


def load(path: Path) -> tuple[Student, dict[str, Any]]:
    """The student of a weights file, in evaluation mode, and the metadata of the file.

    A file without a design, of another version, or with weights of another architecture, is a `UserError`.
    """
    tensors, about = load_tensors(path)
    if "design" not in about:
        raise UserError(f"{path} holds no student but a method's training modules; name seed<k>-a or seed<k>-b")
    try:
        design = Design(**about["design"])
    except TypeError as error:
        raise UserError(f"{path} was written by another version of ctrcl ({error}); train it again") from None
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
