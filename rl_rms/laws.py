"""Formulas for the half-life with the least tracking error, for several kinds of change of the tracked quantity.

The tracking error of an exponential average is the sum of its noise and its lag. For ``theta >> 1``, the noise is
``R / (2 theta)``, where R is the variance of one measurement and ``theta = h / ln 2`` is the time constant of the
half-life h. The lag grows with theta, and depends on how the tracked quantity x changes. A stationary x has the
semivariogram ``gamma(k) = E[(x_t - x_{t-k})**2] / 2``. Then the lag is ``E[gamma(K)]``, where K is exponentially
distributed with mean theta. The functions return the half-life with the least error, except `longest_half_life`
and `tracking_error`. All half-lives and times are in updates. A half-life of ``inf`` means that forgetting only
adds error.

For the second moment of gradients, x is ``ln sigma**2``, where ``sigma**2`` is the expected squared gradient. The
signal S is the variance of x over time. The noise R is ``Var(g**2 / sigma**2)``; it is 2 for Gaussian gradients.
The formulas hold for small changes of x. `jump_half_life`, `tracking_error` and `least_error_half_life` also hold
for large changes.
"""

import math

LN2 = math.log(2.0)
GAUSSIAN_NOISE = 2.0
"""``Var(g**2 / sigma**2)`` of Gaussian gradients: kurtosis - 1."""

# Nodes of the trapezoidal rule in `tracking_error` on each side of z = 0. With more nodes, the result changes by
# less than 0.1 % for S up to 6, and by less than 2 % for S up to 100.
_NODES = 12


def matched_half_life(timescale: float, snr: float) -> float:
    """The best half-life for autocovariance ``S exp(-k / tau)``: ``h = ln 2 tau / (sqrt(2 tau S / R) - 1)``.

    This half-life minimizes ``S theta / (theta + tau) + R / (2 theta)``, the error of exponential averages with
    theta >> 1. The formula applies to an Ornstein-Uhlenbeck drift and to Poisson jumps to independent levels.

    Args:
        timescale: Autocorrelation time tau, > 0; ``inf`` if nothing changes.
        snr: Variance S of the quantity over time divided by the variance R of one measurement, >= 0.

    Returns:
        Half-life in updates; ``inf`` if tau is infinite or ``2 tau S / R <= 1``, because the mean of all
        measurements is then best.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> [round(matched_half_life(200, snr), 1) for snr in (1, 0.1, 0.01)]
        [7.3, 26.0, 138.6]
    """
    _check("timescale", timescale, positive=True)
    _check("snr", snr)
    root = math.sqrt(2.0 * timescale * snr) if snr > 0.0 else 0.0
    if root <= 1.0 or math.isinf(timescale):
        return math.inf
    return LN2 * timescale / (root - 1.0)


def jump_half_life(dwell: float, variance_ratio: float) -> float:
    """The best half-life for Gaussian gradients whose variance jumps: ``h = (ln 2 / 2) sqrt(8 T / (ln R)**2)``.

    After a jump, the error of the average v is ``integral 1/2 [sigma**2/v - ln(sigma**2/v) - 1] ds`` over the
    updates s. Let ``alpha = ln 2 / h`` and ``C = (ln R)**2 / 8``. The mean of the integrals for a jump up and a
    jump down is exactly ``C / alpha``. The noise adds ``alpha / 4`` in each update. For ``T (ln R)**2 >> 8``, h
    nearly equals `matched_half_life` with ``S = (ln R)**2 / 4``, ``tau = T / 2`` and the noise of Gaussian
    gradients.

    Args:
        dwell: Updates T between two jumps, > 0; ``inf`` if there are no jumps.
        variance_ratio: Ratio R of the two variances, > 0; a ratio and its inverse give the same result.

    Returns:
        Half-life in updates; ``inf`` for a ratio of 1, or if there are no jumps.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> [round(jump_half_life(600, ratio), 1) for ratio in (4, 100)]
        [17.3, 5.2]
    """
    _check("dwell", dwell, positive=True)
    _check("variance_ratio", variance_ratio, positive=True)
    cost = math.log(variance_ratio) ** 2 / 8.0
    return 0.5 * LN2 * math.sqrt(dwell / cost) if cost > 0.0 else math.inf


def random_walk_half_life(drift_variance: float, noise_variance: float) -> float:
    """The best half-life for a random walk: ``h = ln 2 sqrt(R / q)``.

    This half-life minimizes ``q theta / 2 + R / (2 theta)``.

    Args:
        drift_variance: Variance q of the change in one update, >= 0.
        noise_variance: Variance R of one measurement, > 0.

    Returns:
        Half-life in updates; ``inf`` without drift.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check("drift_variance", drift_variance)
    _check("noise_variance", noise_variance, positive=True)
    return LN2 * math.sqrt(noise_variance / drift_variance) if drift_variance > 0.0 else math.inf


def ramp_half_life(slope: float, noise_variance: float) -> float:
    """The best half-life for a ramp: ``h = ln 2 (R / (4 b**2))**(1/3)``.

    This half-life minimizes ``(b theta)**2 + R / (2 theta)``.

    Args:
        slope: Change b in one update, of either sign.
        noise_variance: Variance R of one measurement, > 0.

    Returns:
        Half-life in updates; ``inf`` for a slope of 0.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check("noise_variance", noise_variance, positive=True)
    _check("the size of slope", abs(slope))
    square = 4.0 * slope * slope  # 0 for slopes below 1e-162
    return LN2 * (noise_variance / square) ** (1.0 / 3.0) if square else math.inf


def sinusoid_half_life(amplitude: float, angular_frequency: float, noise_variance: float) -> float:
    """The best half-life for a slow sinusoid: ``h = ln 2 (R / (2 A**2 w**2))**(1/3)``.

    The result is the half-life for a ramp with the squared slope ``(A w)**2 / 2``, the sinusoid's mean squared
    slope.

    Args:
        amplitude: A, of either sign.
        angular_frequency: w in radians per update, of either sign; accurate if ``w h << 1``.
        noise_variance: Variance R of one measurement, > 0.

    Returns:
        Half-life in updates; ``inf`` if the amplitude or the frequency is 0.

    Raises:
        ValueError: If an argument is out of range.
    """
    return ramp_half_life(amplitude * angular_frequency / math.sqrt(2.0), noise_variance)


def longest_half_life(max_step: float, lr: float) -> float:
    """The longest half-life that keeps every step within a limit: ``h = ln 2 (max_step / lr)**2``.

    Without momentum, optimism, decoupled weight decay and ``centered``, ``|step| <= lr / sqrt(1 - rho)`` for all
    gradients. The formula replaces ``1 - rho`` by ``ln 2 / h``, which is accurate for long half-lives.

    Args:
        max_step: Largest allowed change of a parameter in one update, > 0.
        lr: Learning rate, > 0.

    Returns:
        Half-life in updates.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check("max_step", max_step, positive=True)
    _check("lr", lr, positive=True)
    return LN2 * (max_step / lr) ** 2


def tracking_error(
    half_life: float, timescale: float, signal: float, noise: float = GAUSSIAN_NOISE, smoothness: float = 1.0
) -> float:
    """Expected Kullback-Leibler error ``E 1/2 [sigma**2/v - 1 - ln(sigma**2/v)]`` of a second moment v.

    In the model, the variance alternates between ``exp(+-sqrt(S))`` at random times. An exponential average of
    such a two-level signal lies between the levels. The distance of the average from the previous level, divided
    by the distance between the levels, has the distribution ``Beta(kappa + 1, kappa)`` with
    ``kappa = 1/2 (theta / tau)**p`` (Wonham and Fuller, "Probability densities of the smoothed random telegraph
    signal", 1958). The formula also includes the noise of v. Like RMSprop's step, the formula uses v after the
    update with the current gradient. For small S and ``p = 1``, `matched_half_life` with ``snr = S / noise`` gives
    nearly the half-life with the least error.

    Args:
        half_life: Half-life of v in updates, finite and > 0.
        timescale: Autocorrelation time tau of ``ln sigma**2``, finite and > 0.
        signal: Variance S of ``ln sigma**2`` over time, >= 0.
        noise: ``Var(g**2 / sigma**2)``, > 0.
        smoothness: Exponent p: at short lags k, the semivariogram of ``ln sigma**2`` grows like ``k**p``. p is 1
            for jumps and random walks, and 2 for smooth changes. For p = 2, the formula is an approximation that
            replaces the smooth changes by jumps whose lag has the same variance.

    Returns:
        The error in nats per coordinate.
    """
    alpha = -math.expm1(-LN2 / half_life)
    kappa = 0.5 * (half_life / LN2 / timescale) ** smoothness
    root = math.sqrt(signal)
    low, high = math.exp(-root), math.exp(root)
    freedom = (2.0 - alpha) / alpha * 2.0 / noise
    settled = _divergence(1.0, freedom, freedom)
    # y is the position of the average between the previous level (0) and the current level (1). The integral over
    # y uses z = logit y. The trapezoidal rule is very accurate for such densities, and at the ends of the range
    # the integrand is negligible.
    step = min(20.0, 7.0 * math.sqrt(2.0 / kappa)) / _NODES
    log_beta = math.lgamma(kappa + 1.0) + math.lgamma(kappa) - math.lgamma(2.0 * kappa + 1.0)
    error = 0.0
    for node in range(-_NODES, _NODES + 1):
        z = node * step
        log_y, log_rest = -math.log1p(math.exp(-z)), -math.log1p(math.exp(z))
        weight = math.exp((kappa + 1.0) * log_y + kappa * log_rest - log_beta)
        y = math.exp(log_y)
        for level, other in ((high, low), (low, high)):
            mean = other + (level - other) * y
            square = other * other + (level * level - other * other) * y
            error += weight * (_divergence(level / mean, freedom * mean * mean / square, freedom) - settled)
    return settled + 0.5 * step * error


def least_error_half_life(
    timescale: float, signal: float, noise: float = GAUSSIAN_NOISE, smoothness: float = 1.0
) -> float:
    """The half-life with the least `tracking_error`, for small and large changes of the variance.

    Args:
        timescale: Autocorrelation time tau of ``ln sigma**2``, > 0; ``inf`` if nothing changes.
        signal: Variance S of ``ln sigma**2`` over time, >= 0.
        noise: ``Var(g**2 / sigma**2)``, > 0.
        smoothness: As in `tracking_error`.

    Returns:
        Half-life in updates, at least 1/2 and accurate to a few per cent; ``inf`` if forgetting only adds error.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> [round(least_error_half_life(timescale, signal=2.6), 1) for timescale in (10, 500)]
        [2.6, 10.2]
    """
    _check("timescale", timescale, positive=True)
    _check("signal", signal)
    _check("noise", noise, positive=True)
    if math.isinf(timescale) or signal == 0.0:
        return math.inf
    last = math.ceil(math.log2(64.0 * timescale)) + 2
    octaves = [math.ldexp(1.0, power) for power in range(-1, max(last, 2))]
    errors = [tracking_error(h, timescale, signal, noise, smoothness) for h in octaves]
    best = min(range(len(octaves)), key=errors.__getitem__)
    if best == len(octaves) - 1:
        return math.inf
    if best == 0:
        return octaves[0]
    # Over log2 of the half-life, a parabola fits the errors of the best power of two and its two neighbors. The
    # result is the half-life at the minimum of the parabola.
    before, at, after = errors[best - 1 : best + 2]
    return octaves[best] * math.exp(0.5 * LN2 * (before - after) / (before - 2.0 * at + after))


def _divergence(ratio: float, freedom: float, stationary_freedom: float) -> float:
    """``E 1/2 [r/c - 1 - ln(r/c)]`` for r = sigma**2 / E v and the random variable c = v / E v, whose mean is 1.

    Let ``n = 2 (E v)**2 / Var(v)``. For large n, approximately ``E[1/c] = 1 + 2/n`` and ``E[ln c] = -1/n``.
    The corrections for small n are fitted to simulated exponential averages of Gaussian squares with half-lives
    from 1/2 to 64. The chi-square formula ``E[1/c] = n / (n - 2)`` has a pole, but ``E[1/c]`` of such averages is
    finite. In an average over two levels, a few large squares make n small, but many small squares keep the
    average away from 0.

    Args:
        ratio: r.
        freedom: n of an average over both levels.
        stationary_freedom: n of an average over a single level.
    """
    inverse = 1.0 / freedom
    inverse /= 1.0 + 2.0 * (inverse - 1.0 / stationary_freedom)
    return 0.5 * (ratio * (1.0 + 2.0 * inverse + 6.5 * inverse**3) - 1.0 - math.log(ratio) - inverse)


def _check(name: str, value: float, *, positive: bool = False) -> None:
    if not (value > 0.0 if positive else value >= 0.0):
        raise ValueError(f"{name} must be {'> 0' if positive else '>= 0'}, got {value!r}")
