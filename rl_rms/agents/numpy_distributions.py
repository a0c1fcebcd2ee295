"""Log-probabilities, entropies and their derivatives in numpy, for the losses of `rl_rms.agents.numpy_backend`.

For a batch of actions with weights w and u, `slopes` gives the derivatives of

    -sum(w log pi(a)) - ent_coef sum(u H)

with respect to the network's outputs, where H is the entropy of the action distribution.
"""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


class CategoricalActions:
    """Discrete actions drawn from a softmax of logits.

    Args:
        logits: Shape ``(batch, num_actions)``.
        actions: Shape ``(batch,)``.
    """

    def __init__(self, logits: Floats, actions: npt.NDArray[np.integer]) -> None:
        # The arrays have the shape (num_actions, batch), because sums over a short last axis are slow.
        log_probs = np.ascontiguousarray(logits.T)
        log_probs -= np.maximum.reduce(log_probs, axis=0)
        probs = np.exp(log_probs)
        total = np.add.reduce(probs, axis=0)
        log_probs -= np.log(total)
        probs /= total
        self._log_probs, self._probs = log_probs, probs
        self._chosen = actions, np.arange(len(logits))

    def log_prob(self) -> Floats:
        """Log-probabilities, shape ``(batch,)``."""
        chosen: Floats = self._log_probs[self._chosen]
        return chosen

    def entropy(self) -> Floats:
        """Entropies, shape ``(batch,)``."""
        entropy: Floats = -np.add.reduce(self._probs * self._log_probs, axis=0)
        return entropy

    def slopes(self, weighted: Floats, weights: Floats, ent_coef: float) -> Floats:
        """Compute ``w (p - 1_a) + ent_coef u p (log p + H)``, shape ``(batch, num_actions)``.

        Here p are the probabilities of the actions, and 1_a is 1 for the drawn action and 0 for all others.

        Args:
            weighted: w, shape ``(batch,)``.
            weights: u, shape ``(batch,)``.
            ent_coef: Weight of the entropy.
        """
        slopes = weighted * self._probs
        slopes[self._chosen] -= weighted
        if ent_coef:
            slopes += (np.float32(ent_coef) * weights) * self._probs * (self._log_probs + self.entropy())
        return np.ascontiguousarray(slopes.T)


class GaussianActions:
    """Actions drawn from independent normal distributions.

    Args:
        mean: Shape ``(batch, size)``.
        log_std: Logarithms of the standard deviations, shape ``(size,)``.
        actions: Shape ``(batch, size)``.
        log_std_grad: Array for the derivatives with respect to ``log_std``, shape ``(size,)``.
    """

    def __init__(self, mean: Floats, log_std: Floats, actions: Floats, log_std_grad: Floats) -> None:
        self._log_std, self._log_std_grad = log_std, log_std_grad
        self._inverse: Floats = np.exp(-log_std)
        self._z: Floats = np.multiply(actions - mean, self._inverse)

    def log_prob(self) -> Floats:
        """Log-densities, shape ``(batch,)``."""
        log_prob: Floats = (-0.5 * self._z * self._z - self._log_std - np.float32(_HALF_LOG_2_PI)).sum(axis=1)
        return log_prob

    def entropy(self) -> Floats:
        """Entropies, shape ``(batch,)``."""
        return np.full(len(self._z), (self._log_std + np.float32(_HALF_LOG_2_PI + 0.5)).sum())

    def slopes(self, weighted: Floats, weights: Floats, ent_coef: float) -> Floats:
        """Compute ``-w z / std`` with ``z = (a - mean) / std``, shape ``(batch, size)``.

        The method also writes the derivatives with respect to ``log_std`` to ``log_std_grad``. These derivatives
        are ``-sum(w (z**2 - 1)) - ent_coef sum(u)``.

        Args:
            weighted: w, shape ``(batch,)``.
            weights: u, shape ``(batch,)``; the sum of the weights must be 1.
            ent_coef: Weight of the entropy.
        """
        weighted = weighted[:, None]
        np.add.reduce(weighted * (1.0 - self._z * self._z), axis=0, out=self._log_std_grad)
        self._log_std_grad -= np.float32(ent_coef)
        slopes: Floats = np.multiply(-weighted * self._z, self._inverse)
        return slopes
