"""Returns and advantages of a rollout, as pure functions of arrays of shape ``(num_steps, num_envs)``."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def bootstrap_values(values: Floats, last_values: Floats, terminated: Bools) -> Floats:
    """The bootstrap value of each transition: the next observation's value, or 0 after a termination.

    A truncated transition bootstraps from the next observation's value. If the environment replaced the final
    observation by the next episode's first observation, the caller must replace the value in the result by the
    final observation's value.

    Args:
        values: ``V(o_t)``, shape ``(num_steps, num_envs)``.
        last_values: ``V`` of the observations after the last step, shape ``(num_envs,)``.
        terminated: Whether transition t terminated its episode, shape ``(num_steps, num_envs)``.

    Returns:
        ``V(o_{t+1})`` with zeros where terminated, shape ``(num_steps, num_envs)``.
    """
    following = np.concatenate((values[1:], last_values[None]))
    following[terminated] = 0.0
    return following


def generalized_advantages(
    rewards: Floats, values: Floats, next_values: Floats, done: Bools, gamma: float, gae_lambda: float
) -> Floats:
    """Generalized advantage estimation.

    ``delta_t = r_t + gamma V_{t+1} - V_t`` and ``A_t = delta_t + gamma lambda (1 - done_t) A_{t+1}``. With
    lambda = 1, ``A_t`` is the bootstrapped reward-to-go minus the value.

    Args:
        rewards: ``r_t``, shape ``(num_steps, num_envs)``.
        values: ``V(o_t)``, same shape.
        next_values: Value that transition t bootstraps from, see `bootstrap_values`, same shape.
        done: Whether transition t was its episode's last, terminated or truncated, same shape.
        gamma: Discount per env step.
        gae_lambda: Factor by which the weights of later ``delta`` decay per step, in addition to ``gamma``.

    Returns:
        Advantages, same shape.

    Source: Schulman et al., "High-dimensional continuous control using generalized advantage estimation",
    2016, equation 16.
    """
    deltas = rewards + gamma * next_values - values
    decay = gamma * gae_lambda * ~done
    advantages = np.empty(deltas.shape)
    following = np.zeros(deltas.shape[1:])
    for delta, kept, advantage in zip(deltas[::-1], decay[::-1], advantages[::-1], strict=True):
        # NumPy's argument ``out`` is not used, because it takes twice as long for one sub-environment.
        following = kept * following + delta
        advantage[...] = following
    return advantages.astype(deltas.dtype, copy=False)


def explained_variance(values: Floats, returns: Floats) -> float:
    """Share of the returns' variance that the values explain, ``1 - Var(returns - values) / Var(returns)``.

    Args:
        values: Predictions, any shape.
        returns: Targets, same shape.

    Returns:
        1 for a perfect prediction, 0 or less for a useless prediction; NaN if the returns do not vary.
    """
    variance = float(np.var(returns)) if returns.size else 0.0
    return float("nan") if variance == 0.0 else 1.0 - float(np.var(returns - values)) / variance
