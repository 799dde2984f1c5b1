"""A photograph denoised and deblurred, with certificates, beside methods of scikit-image."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

from convexreg.models.files import DEFAULT_MODEL
from convexreg.reconstruction.defaults import MAX_ITER, Accuracy
from convexreg.reconstruction.from_measurements import reconstruct
from convexreg.reconstruction.result import Reconstruction
from convexreg.solvers.progress import Progress


@dataclass(frozen=True)
class SolvedTask:
    """One of the demonstration's tasks, solved; images are `(1, 1, H, W)`.

    :ivar shown: the measurements, cut or padded to the size of the clean image.
    :ivar simple: what scikit-image makes of them, by the method of the name `method`.
    """

    name: str
    clean: Tensor
    shown: Tensor
    result: Reconstruction
    method: str
    simple: Tensor

    def figures(self) -> dict[str, Any]:
        """Name and PSNR before and after, in dB."""
        return {
            "problem": self.name,
            "psnr_before": round(_psnr(self.shown, self.clean), 2),
            "simple": self.method,
            "psnr_simple": round(_psnr(self.simple, self.clean), 2),
            "psnr_after": round(_psnr(self.result.image, self.clean), 2),
        }


@dataclass(frozen=True)
class Demonstration:
    """What `run_demo` returns."""

    problems: tuple[SolvedTask, ...]

    def text(self) -> str:
        """PSNR before and after with the certificate, one line per problem."""
        lines = []
        for problem in self.problems:
            figures, result = problem.figures(), problem.result
            seconds = sum(each.seconds for each in result.rounds)
            lines.append(
                f"{problem.name}: {figures['psnr_before']:.2f} dB -> {figures['psnr_after']:.2f} dB, "
                f"{result.summary().replace(chr(10), '; ')} ({seconds:.1f} s); {problem.method} "
                f"{figures['psnr_simple']:.2f} dB"
            )
        return "\n".join(lines)

    def picture(self, suffix: str = ".png") -> bytes:
        """Clean, measured and reconstructed images side by side, as an encoded picture."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 3.3 * len(self.problems)), layout="constrained")
        axes = figure.subplots(len(self.problems), 4, squeeze=False)
        for row, problem in zip(axes, self.problems, strict=True):
            figures = problem.figures()
            gap = float(problem.result.certificate.relative_gap[0])
            panels = (
                (problem.clean, "photograph"),
                (problem.shown, f"{problem.name}: {figures['psnr_before']:.2f} dB"),
                (problem.simple, f"{problem.method}: {figures['psnr_simple']:.2f} dB"),
                (
                    problem.result.image,
                    f"{figures['psnr_after']:.2f} dB, minimum certified to {100 * gap:.1g} %",
                ),
            )
            for axis, (image, title) in zip(row, panels, strict=True):
                axis.imshow(image[0, 0].clamp(0, 1).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
                axis.set_title(title, fontsize=9)
                axis.axis("off")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix.lstrip("."), dpi=120)
        return buffer.getvalue()


def _psnr(image: Tensor, clean: Tensor) -> float:
    from deepinv.loss.metric import PSNR

    return float(PSNR()(image, clean))


def run_demo(
    model: str | Path = DEFAULT_MODEL,
    *,
    lam: float | Literal["auto", "discrepancy", "sure"] = "auto",
    accuracy: Accuracy = "default",
    gap_tol: float | None = None,
    max_iter: int = MAX_ITER,
    device: torch.device | str = "cpu",
    callback: Callable[[], Callable[[Progress], None]] | None = None,
    size: int = 256,
) -> Demonstration:
    """Denoise (`sigma = 25/255`) and deblur (Gaussian, std 1.6, `sigma = 0.03`) scikit-image's camera.

    Beside it non-local means and Richardson-Lucy's iteration, at what is about their best strength for this
    photograph.

    :param model, lam, accuracy, gap_tol, max_iter: see `reconstruct`.
    :param callback: makes a progress callback for a solve.
    :param size: side of the square cut out of the photograph.
    """
    import deepinv
    from skimage import data, restoration

    photograph = torch.from_numpy(data.camera()).float() / 255
    clean = photograph[60 : 60 + size, 130 : 130 + size][None, None].to(device)
    generator = torch.Generator().manual_seed(0)
    kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.6, 1.6))
    blur = deepinv.physics.Blur(kernel, padding="circular", device=torch.device(device))

    def non_local_means(noisy: numpy.ndarray) -> numpy.ndarray:
        noise = 25 / 255
        return restoration.denoise_nl_means(noisy, 5, 6, 0.7 * noise, True, noise)

    def richardson_lucy(blurred: numpy.ndarray) -> numpy.ndarray:
        margin = kernel.shape[-1]
        around = numpy.pad(blurred, margin, mode="wrap").clip(1e-3)
        restored = restoration.richardson_lucy(around, kernel[0, 0].numpy(), 12)
        return restored[margin:-margin, margin:-margin]

    denoising = deepinv.physics.Denoising()
    tasks = (
        ("denoising, sigma 25/255", denoising, 25 / 255, "non-local means", non_local_means),
        ("deblurring, sigma 0.03", blur, 0.03, "Richardson-Lucy", richardson_lucy),
    )
    problems = []
    for name, physics, sigma, title, method in tasks:
        sharp = physics.A(clean)
        y = sharp + sigma * torch.randn(sharp.shape, generator=generator).to(device)
        result = reconstruct(
            y,
            physics,
            sigma=sigma,
            regularizer=model,
            lam=lam,
            accuracy=accuracy,
            gap_tol=gap_tol,
            max_iter=max_iter,
            callback=callback() if callback else None,
        )
        simple = torch.from_numpy(method(y[0, 0].cpu().numpy())).to(y)[None, None]
        problems.append(SolvedTask(name, clean, y, result, title, simple))
    return Demonstration(tuple(problems))
