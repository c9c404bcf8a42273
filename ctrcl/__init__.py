"""CNN-Transformer rectified collaborative learning (CTRCL) for medical image segmentation, and the methods around it.

The names below are the losses for a training loop of one's own; each is imported with its file when it is first used.
"""

from importlib import import_module
from typing import Any

NAMESAKES = ("at", "cwd", "dist", "dkd", "dml", "ifvd", "masked", "mcl", "revised", "swapped")  # in methods/<name>.py
PUBLIC = {
    **{f"methods.{name}": (name,) for name in NAMESAKES},
    "losses.rectification": ("Rectification", "rectify"),
    "losses.divergence": ("kl", "kd"),
    "losses.segmentation": ("segmentation", "cross_entropy", "dice"),
    "losses.class_aware": ("CategoryPerception", "cfcl"),
    "methods.kdcl": ("kdcl_naive", "kdcl_minlogit", "kdcl_linear", "kdcl_general"),
    "methods.skd": ("skd_pixel", "skd_pair"),
    "methods.cirkd": ("cirkd_batch", "ClassMemory"),
    "methods.mgd": ("mgd", "MaskedGeneration"),
    "methods.emkd": ("emkd_importance", "emkd_region"),
    "losses.adversarial": ("ctkd", "Temperature"),
    "engine.metrics": ("surface_distances",),
}
_HOME = {name: module for module, names in PUBLIC.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ctrcl' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"ctrcl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
