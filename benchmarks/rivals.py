"""Other averages of squared gradients for `benchmarks/tracking.py`: published rules and three prototypes.

Every rule is a class with the method ``step(g)``. The method takes the gradients of one update, shape (seeds,
coordinates), and returns the second moment v after this update. The constants of published rules are the defaults
of their sources, except for rho in `LeftOut`.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Rival(Protocol):
    """Interface of an average of squared gradients."""

    def step(self, g: Array) -> Array:
        """Update with the gradients ``g`` and return the second moment, both (seeds, coordinates)."""


class Average:
    """``v <- v + gain (x - v)``, bias-corrected for any sequence of gains."""

    def __init__(self) -> None:
        self.v: Any = 0.0
        self.start: Any = 1.0

    def step(self, x: Array, gain: Any) -> Array:
        """Update with ``x`` and return the average."""
        self.v = self.v + gain * (x - self.v)
        self.start = self.start * (1.0 - gain)
        return self.value

    @property
    def value(self) -> Array:
        """The average so far, or nan before any value."""
        with np.errstate(invalid="ignore"):
            result: Array = np.asarray(self.v) / (1.0 - self.start)
        return result


class LeftOut:
    """The average without the present gradient, as in ADOPT (Taniguchi 2024, arXiv:2411.02853)."""

    def __init__(self, rho: float = 0.99) -> None:
        self.gain, self.average = 1.0 - rho, Average()

    def step(self, g: Array) -> Array:
        """Update and return the average before ``g``, or the first square at the first update."""
        before = self.average.value
        after = self.average.step(g * g, self.gain)
        return np.where(np.isfinite(before), before, after)


class Kourkoutas:
    """Kourkoutas-beta (Kassinos 2025, arXiv:2508.12996): a gradient spike shortens the half-life of its layer.

    s = |g| / EMA |g|,  sun = s / (1 + s),  rho = 0.999 - (0.999 - 0.88) sun
    """

    def __init__(self) -> None:
        self.norm, self.average = Average(), Average()

    def step(self, g: Array) -> Array:
        """Update v. All coordinates belong to one layer."""
        size = np.linalg.norm(g, axis=-1, keepdims=True)
        spike = size / self.norm.step(size, 0.07)
        return self.average.step(g * g, 1.0 - (0.999 - 0.119 * spike / (1.0 + spike)))


class AdaSmooth:
    """AdaSmooth (Lu 2022, arXiv:2204.00825): parameters with a trend have shorter half-lives.

    e = |sum of steps| / sum |steps|,  c = (0.99 - 0.5) e + 1 - 0.99,  v <- (1 - c**2) v + c**2 g**2
    """

    def __init__(self) -> None:
        self.path: Any = 0.0
        self.length: Any = 1e-300
        self.average = Average()

    def step(self, g: Array) -> Array:
        """Update; the steps ``g / sqrt(v)`` are summed from the start, as in pytorch_optimizer."""
        trend = np.abs(self.path) / self.length
        v = self.average.step(g * g, (0.49 * trend + 0.01) ** 2 * np.ones_like(g))
        step = g / np.sqrt(v)
        self.path, self.length = self.path + step, self.length + np.abs(step)
        return v


class VSGD:
    """vSGD (Schaul 2013, arXiv:1206.1106): ``tau <- (1 - mean(g)**2 / v) tau + 1``, gain ``1 / tau``.

    The first ten updates use the plain mean.
    """

    def __init__(self) -> None:
        self.t = 0
        self.tau: Any = 1.0
        self.mean: Any = 0.0
        self.v: Any = 0.0

    def step(self, g: Array) -> Array:
        """Update each coordinate with its own gain."""
        gain = 1.0 / self.tau
        self.mean = self.mean + gain * (g - self.mean)
        self.v = self.v + gain * (g * g - self.v)
        self.t += 1
        self.tau = self.tau + 1.0 if self.t < 10 else (1.0 - self.mean**2 / self.v) * self.tau + 1.0
        result: Array = self.v
        return result


class Adafactor:
    """Adafactor's schedule (Shazeer and Stern 2018, arXiv:1804.04235): ``rho = 1 - t**-0.8``."""

    def __init__(self) -> None:
        self.t, self.average = 0, Average()

    def step(self, g: Array) -> Array:
        """Update with a gain that falls with the number of updates."""
        self.t += 1
        return self.average.step(g * g, self.t**-0.8)


class Hypergradient:
    """Our prototype: gradient descent of a tensor's gain on the one-step-ahead likelihood loss.

    The rule follows IDBD (Sutton 1992): ``d = dv / d ln gain`` is a trace and
    ``ln gain += 0.05 mean((g**2 / v - 1) d / v)``.
    """

    def __init__(self) -> None:
        self.average = Average()
        self.log_gain: Any = np.log(0.01)
        self.trace: Any = 0.0

    def step(self, g: Array) -> Array:
        """Update, with all coordinates as one tensor."""
        squares = g * g
        gain = np.exp(self.log_gain)
        before = self.average.value
        after = self.average.step(squares, gain)
        if np.isfinite(before).all():
            signal = (np.minimum(squares / before, 100.0) - 1.0) * self.trace / before
            change = np.clip(0.05 * signal.mean(-1, keepdims=True), -0.1, 0.1)
            self.log_gain = np.clip(self.log_gain + change, np.log(1e-4), np.log(0.5))
            self.trace = (1.0 - gain) * self.trace + gain * (squares - before)
        return after


class AMSGrad:
    """AMSGrad (Reddi 2018, arXiv:1904.09237): the largest average so far, rho = 0.999."""

    def __init__(self) -> None:
        self.average, self.largest = Average(), np.zeros(())

    def step(self, g: Array) -> Array:
        """Update; the maximum is taken before the bias correction, as in torch."""
        self.average.step(g * g, 0.001)
        self.largest = np.maximum(self.largest, self.average.v)
        return self.largest / (1.0 - self.average.start)


class AdaShift:
    """AdaShift (Zhou 2019, arXiv:1810.00143): v from gradients of ten updates ago, rho = 0.999."""

    def __init__(self) -> None:
        self.average, self.waiting = Average(), list[Array]()

    def step(self, g: Array) -> Array:
        """Update v. The first ten updates use the current gradient."""
        self.waiting.append(g * g)
        if len(self.waiting) <= 10:
            return self.waiting[-1]
        return self.average.step(self.waiting.pop(0), 0.001)


class AdamRel:
    """Adam-Rel (Ellis 2024, arXiv:2412.17113): a change resets the bias correction's step count and keeps v.

    This class is an oracle, because it receives the times of the changes.

    Args:
        changes: Whether a change happens before each update, shape ``(updates, seeds, 1)``.
        rho: Decay rate of v.
    """

    def __init__(self, changes: NDArray[np.bool_], rho: float = 0.999) -> None:
        self.changes, self.rho, self.t = changes, rho, 0
        self.v: Any = 0.0
        self.clock: Any = 0.0

    def step(self, g: Array) -> Array:
        """Update v, and return it with bias correction."""
        self.clock = np.where(self.changes[self.t], 0.0, self.clock) + 1.0
        self.t += 1
        self.v = self.rho * self.v + (1.0 - self.rho) * g * g
        result: Array = self.v / (1.0 - self.rho**self.clock)
        return result


class ScaleShape:
    """Our prototype: ``v = s d`` with a fast scale s of the tensor and a slow shape d of its coordinates.

    s is an average of ``mean g**2 / d`` with a half-life of 2 updates. d is an average of ``g**2 / s`` with a
    half-life of 512 updates.
    """

    def __init__(self, half_life: float = 512.0) -> None:
        self.gain = 1.0 - 2.0 ** (-1.0 / half_life)
        self.scale, self.shape = Average(), Average()

    def step(self, g: Array) -> Array:
        """Update, with all coordinates as one tensor."""
        d = self.shape.value
        ratio = np.where(np.isfinite(d), g * g / d, 1.0) if np.ndim(d) else np.ones_like(g)
        s = self.scale.step(ratio.mean(-1, keepdims=True), 1.0 - 2.0**-0.5)
        return s * self.shape.step(g * g / s, self.gain)


class ScaleShapeBank:
    """Our prototype: `ScaleShape` and plain averages with several half-lives, weighted as in `Bank`.

    The weights are a softmax of the decayed one-step-ahead log-likelihood on 16 coordinates. v is the weighted
    geometric mean of the candidates.
    """

    HALF_LIVES = (4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)

    def __init__(self) -> None:
        self.plain = [Average() for _ in self.HALF_LIVES]
        self.scaled = [ScaleShape(h) for h in self.HALF_LIVES]
        self.before: Array | None = None
        self.scores: Any = 0.0

    def step(self, g: Array) -> Array:
        """Update, with all coordinates as one tensor."""
        if self.before is not None:
            loss = np.log(self.before) + np.minimum(g[..., :16] ** 2 / self.before, 100.0)
            self.scores = 2.0 ** (-1.0 / 256.0) * self.scores + 0.5 * loss.sum(-1, keepdims=True)
        plain = [a.step(g * g, 1.0 - 2.0 ** (-1.0 / h)) for a, h in zip(self.plain, self.HALF_LIVES, strict=True)]
        v = np.stack(plain + [scaled.step(g) for scaled in self.scaled])
        self.before = v[..., :16]
        weights = np.exp(-0.05 * (self.scores - np.min(self.scores, axis=0)))
        weights = weights / weights.sum(0) if np.ndim(weights) else 1.0 / len(v)
        result: Array = np.exp((weights * np.log(v)).sum(0))
        return result
