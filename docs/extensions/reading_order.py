"""The tutorials in the order in which they are to be read."""

from __future__ import annotations

_FILES = (
    "denoise_photograph",
    "deblur_measured_kernel",
    "microscopy",
    "deepinv_pipeline",
    "certificates",
    "train_own_images",
    "extend",
    "deblur_photograph",
    "tomography",
    "adaptive_weights",
    "uncertainty",
)


class ReadingOrder:
    """A sort key of sphinx-gallery.

    :raises ValueError: a tutorial that is not in the list.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def __call__(self, filename: str) -> int:
        return _FILES.index(filename.removesuffix(".py"))
