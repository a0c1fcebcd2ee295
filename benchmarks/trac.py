"""TRAC around Adam: an optimizer that scales the displacement from the initial weights.

    h_t     = <g_t, (theta_t - theta_1) / (S_t + eps)>
    v_t     = beta^2 v_{t-1} + h_t^2
    sigma_t = beta sigma_{t-1} - h_t
    s_t     = eps erfi(sigma_t / (sqrt(2 v_t) + eps)) / erfi(1 / sqrt(2))
    S_{t+1} = sum of s_t over the six betas
    theta_{t+1} = theta_1 + max(S_{t+1}, 0) (direction_t + Adam's update)

``direction_t`` is ``(theta_t - theta_1) / (S_t + eps)``, and ``g_t`` is the gradient at ``theta_t``. Source:
Muppidi, Zhang and Yang, "Fast TRAC: a parameter-free optimizer for lifelong reinforcement learning", 2024,
algorithms 1 and 2.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy.special import erfi
from torch.nn.utils import parameters_to_vector, vector_to_parameters

BETAS = 1.0 - 10.0 ** -np.arange(1.0, 7.0)
EPS = 1e-8


class TRAC(torch.optim.Adam):
    """Adam whose total displacement from the initial parameters is scaled.

    Args:
        params: Parameters, which form a single group.
        **kwargs: Arguments of Adam.

    Attributes:
        scale: The sum of the scales of all betas.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self.scale = 0.0
        self._variance = np.zeros_like(BETAS)
        self._sigma = np.full_like(BETAS, EPS)
        self._initial: torch.Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take Adam's step, then scale the displacement."""
        parameters = [one for one in self.param_groups[0]["params"] if one.grad is not None]
        before = parameters_to_vector(parameters)
        gradient = parameters_to_vector([one.grad for one in parameters])
        loss = super().step(closure)
        if self._initial is None:
            self._initial = before
        direction = (before - self._initial) / (self.scale + EPS)
        slope = float(gradient @ direction)
        direction += parameters_to_vector(parameters) - before
        self._variance = BETAS**2 * self._variance + slope**2
        self._sigma = BETAS * self._sigma - slope
        scales = EPS / erfi(0.5**0.5) * erfi(self._sigma / (np.sqrt(2.0 * self._variance) + EPS))
        self.scale = float(scales.sum())
        vector_to_parameters(self._initial + max(self.scale, 0.0) * direction, parameters)
        return loss
