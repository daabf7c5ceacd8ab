"""Seeded noise fields: what makes a phantom look like matter. float32, deterministic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def _lowpass(shape: tuple[int, int], sigma: tuple[float, float]) -> Field:
    """The transfer function [h, w//2+1] of a Gaussian of `sigma` [rows, columns] px, periodic."""
    rows = np.fft.fftfreq(shape[0])[:, None] * sigma[0]
    columns = np.fft.rfftfreq(shape[1])[None, :] * sigma[1]
    gauss: Field = np.exp(-2.0 * np.pi**2 * (rows**2 + columns**2)).astype(np.float32)
    return gauss


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]
) -> Field:
    """[h, w] of mean 0 and deviation 1, correlated over `sigma` px, seamless at its borders."""
    white = rng.standard_normal(shape, dtype=np.float32)
    field = np.fft.irfft2(np.fft.rfft2(white) * _lowpass(shape, sigma), s=shape)
    field -= field.mean()
    deviation = float(field.std())
    scaled: Field = (field / max(deviation, 1e-6)).astype(np.float32)
    return scaled


def speckle(
    rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]
) -> NDArray[np.complex64]:
    """[h, w] complex scatter of unit mean power: its magnitude is Rayleigh, as in ultrasound."""
    real = smooth_noise(rng, shape, sigma)
    imaginary = smooth_noise(rng, shape, sigma)
    scatter: NDArray[np.complex64] = ((real + 1j * imaginary) * 0.5**0.5).astype(np.complex64)
    return scatter


def ramp(values: tuple[float, ...], at: Field) -> Field:
    """Piecewise linear through `values`, spread evenly over 0..1, read at `at`."""
    knots = np.linspace(0.0, 1.0, len(values))
    return np.interp(at, knots, values).astype(np.float32)
