"""Training alone: both students on the same batches, nothing passes between them (baseline)."""

from ctrcl.methods.base import Method, Step, Terms


class Alone(Method):
    citation = "training alone"
    equation = "nothing"
    family = "baseline"
    fidelity = "ours"

    def forward(self, step: Step) -> Terms:
        """No terms."""
        return {}
