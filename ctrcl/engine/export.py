"""`ctrcl export`: one student as safetensors and as ONNX, without anything that it was trained with.

The ONNX graph is what inference does to prepared images: input `image`, B C S S in [0, 1], B any number and S the size
that the student was built for; output `probabilities`, B K S S. The standardisation is inside. To segment an image of
another size, resize it, resize the probabilities back, then take the largest class.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctrcl.data.batches import standardised
from ctrcl.io import replacing
from ctrcl.models.students import Student, load, save


class Deployed(nn.Module):
    """A student from the image to the probabilities, as in `infer.probabilities`."""

    def __init__(self, student: Student):
        super().__init__()
        self.student = student

    def forward(self, image: Float[Tensor, "b c s s"]) -> Float[Tensor, "b k s s"]:
        """Class probabilities of images in [0, 1]."""
        return self.student(standardised(image)).probabilities


def export(weights: Path, output: Path) -> tuple[Path, Path]:
    """Write `output/<name>.safetensors` and `output/<name>.onnx`, name as of the weights; both or neither.

    Raises:
        UserError: the weights cannot be read.
    """
    student, about = load(weights)
    graph, copy = (output / f"{weights.stem}{suffix}" for suffix in (".onnx", ".safetensors"))
    with replacing(graph) as draft:
        write_graph(student, draft)
        save(student, copy, about)
    return copy, graph


def write_graph(student: Student, path: Path) -> None:
    """One checked ONNX file with its weights inside; equal weights are equal bytes."""
    import onnx
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    size = student.design.size
    images = torch.zeros(2, student.design.channels, size, size)  # one would be taken for a constant
    program: Any = torch.onnx.export(
        Deployed(student).eval(),
        (images,),
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=18,  # the least that torch's exporter writes
        dynamo=True,
        verbose=False,
    )
    ClearMetadataAndDocStringPass()(program.model)  # stack traces, with the paths of this machine
    program.save(path, external_data=False)
    onnx.checker.check_model(path, full_check=True)
