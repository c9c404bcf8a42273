"""Attention transfer (AT): maps of the mean squared activation.

Zagoruyko, Komodakis: "Paying more attention to attention", ICLR 2017, equation 2; fidelity `exact`, in two forms, since
the authors' code and their paper differ; their usual weights are 1000 and 10.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ctrcl.io import UserError
from ctrcl.losses.features import attention_difference
from ctrcl.methods.base import OfflineMethod, OfflineOptions, Stage, Step, Terms
from ctrcl.models.students import Prediction


def at(student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"], form: str = "code") -> Float[Tensor, ""]:
    """Distance of the attention maps A = vec(mean_c F^2) / ||.||, which may differ in channels.

    Args:
        form: "code" is the mean of (A_s - A_t)^2 over all entries, "paper" the mean over images of ||A_s - A_t||;
            the usual weights, 1000 and 10, belong to them.

    Raises:
        UserError: another form.
    """
    difference = attention_difference(student, teacher, 2)
    match form:
        case "code":
            loss = difference.square().mean()
        case "paper":
            loss = difference.norm(dim=1).mean()  # AT, equation 2
        case _:
            raise UserError(f"attention transfer: there is no form {form!r}; the forms are code, paper")
    return loss.to(student.dtype)


class AT(OfflineMethod):
    """Distance of the attention maps."""

    label = "AT"
    citation = "Zagoruyko, Komodakis: Paying more attention to attention, ICLR 2017"
    equation = "{weight} |A - A_t|² ({form} form)"
    fidelity = "exact"

    class Options(OfflineOptions):
        """`form`: 1000 is the usual weight of the code's form, 10 of the paper's."""

        weight: float = Field(1000.0, ge=0)
        stages: tuple[Stage, ...] = Field((3,), min_length=1)
        form: Literal["code", "paper"] = "code"

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        """`at`."""

        def loss(own: Tensor, theirs: Tensor, _: nn.Module) -> Tensor:
            return at(own, theirs, self.options.form)

        return {"at": self.options.weight * self.over_stages(loss, name, student, teacher)}
