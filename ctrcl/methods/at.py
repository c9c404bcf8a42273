"""Attention transfer (AT): maps of the mean squared activation.

Zagoruyko, Komodakis: "Paying more attention to attention", ICLR 2017, equation 2; fidelity `exact`, in two forms, since
the authors' code and their paper differ; their usual weights are 1000 and 10.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ctrcl.io import UserError
from ctrcl.losses.features import attention_difference
from ctrcl.losses.targets import Feature, Scalar, TeacherFeature
from ctrcl.methods.base import FeatureOptions, OfflineMethod, Step


def at(student: Feature, teacher: TeacherFeature, form: str = "code") -> Scalar:
    """Distance of the attention maps A = vec(mean_c F^2) / ||.||, which may differ in channels.

    Args:
        form: "code" is the mean of (A_s - A_t)^2 over all entries, "paper" the mean over images of ||A_s - A_t||;
            the usual weights, 1000 and 10, belong to them.

    Raises:
        UserError: another form.
    """
    if form not in ("code", "paper"):
        raise UserError(f"attention transfer: there is no form {form!r}; the forms are code, paper")
    difference = attention_difference(student, teacher, 2)
    loss = difference.square() if form == "code" else difference.norm(dim=1)  # AT, equation 2
    return loss.mean().to(student.dtype)


class AT(OfflineMethod):
    citation = "Zagoruyko, Komodakis: Paying more attention to attention, ICLR 2017"
    equation = "{weight} |A - A_t|² ({form} form)"
    fidelity = "exact"

    class Options(FeatureOptions):
        """`form`: 1000 is the usual weight of the code's form, 10 of the paper's."""

        weight: float = Field(1000.0, ge=0)
        form: Literal["code", "paper"] = "code"

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        return at(own, theirs, self.options.form)
