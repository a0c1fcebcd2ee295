"""Games: each player's optimizer minimizes the player's loss. A loss may depend on all players' parameters.

Simultaneous gradient steps may rotate around an equilibrium without converging. Alternating and extragradient
steps damp the rotation (Gidel et al., "A variational inequality perspective on generative adversarial networks",
arXiv:1802.10551).
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

Play = Literal["simultaneous", "alternating", "extragradient"]
Losses = Callable[[], Sequence[Tensor]]


def play_round(optimizers: Sequence[Optimizer], losses: Losses, play: Play = "simultaneous") -> list[float]:
    """Step every player's optimizer with the gradient of the player's own loss.

    - ``"simultaneous"``: all gradients are computed at the same parameters.
    - ``"alternating"``: players step one after the other, and each gradient is computed with the new parameters of
      the earlier players.
    - ``"extragradient"``: all players take a trial step, compute gradients at the trial parameters, undo the trial
      step, and step with these gradients (Korpelevich 1976). The trial step leaves parameters, options and state,
      such as RMSprop's v, unchanged.

    Args:
        optimizers: One optimizer for each player.
        losses: Function that returns the players' losses in the order of the optimizers, as scalars with a graph.
            The function is called once in a simultaneous round, twice in an extragradient round, and once for each
            player in an alternating round.
        play: Order of the players' steps.

    Returns:
        The losses at the start of the round.

    Raises:
        ValueError: If ``play`` is unknown, or the number of losses differs from the number of optimizers.

    Examples:
        >>> x, y = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
        >>> players = [torch.optim.SGD([one], lr=0.5) for one in (x, y)]
        >>> play_round(players, lambda: ((x * y).sum(), -(x * y).sum()), "alternating")
        [1.0, -1.0]
        >>> x.item(), y.item()  # y steps after x
        (0.5, 1.25)
    """
    if play not in get_args(Play):
        raise ValueError(f"play must be one of {', '.join(map(repr, get_args(Play)))}, got {play!r}")
    evaluated = _evaluate(optimizers, losses)
    values = [loss.item() for loss in evaluated]
    if play == "alternating":
        for player, optimizer in enumerate(optimizers):
            if player > 0:
                evaluated = _evaluate(optimizers, losses)
            _write_gradients(optimizer, evaluated[player])
            optimizer.step()
        return values
    for optimizer, loss in zip(optimizers, evaluated, strict=True):
        _write_gradients(optimizer, loss)
    if play == "extragradient":
        with _taken_back(optimizers):
            for optimizer in optimizers:
                optimizer.step()
            for optimizer, loss in zip(optimizers, _evaluate(optimizers, losses), strict=True):
                _write_gradients(optimizer, loss)
    for optimizer in optimizers:
        optimizer.step()
    return values


def cycle_radius(lr: float, rho: float, *, momentum: float = 0.0, optimism: float = 0.0) -> float:
    """The radius at which simultaneous RMSprop circles the equilibrium of the game ``x y``.

    Let ``s = lr / (1 - momentum)``. A round turns the parameters by the angle ``w = sqrt(2) s / r`` and increases
    the radius r by the fraction ``w**2 / 2 * ((1 + momentum) / (1 - momentum) - 2 optimism)``. The gradients
    oscillate, and v lags behind the squared gradients. This lag decreases r by the fraction ``(1 - rho) / 8``.
    Both fractions are equal at

        r = 2 sqrt(2) s / sqrt(1 - rho) * sqrt((1 + momentum) / (1 - momentum) - 2 optimism)

    r converges to this radius from inside and from outside if rho is near 1, ``momentum < rho``, epsilon is small,
    and a full turn is much longer than the half-life of the momentum buffer.

    Args:
        lr: Learning rate of both players.
        rho: Decay of v per update.
        momentum: Decay of the momentum buffer, in (-1, rho).
        optimism: As in `rl_rms.RMSprop`; at or above ``(1 + momentum) / (1 - momentum) / 2``, the radius is 0,
            because there is no cycle.

    Returns:
        The radius, in the parameters' units.

    Examples:
        >>> round(cycle_radius(0.01, 0.99), 4)
        0.2828
    """
    turning = (1 + momentum) / (1 - momentum) - 2 * optimism
    return 2 * math.sqrt(2) * lr / (1 - momentum) * math.sqrt(max(turning, 0.0) / (1 - rho))


def _evaluate(optimizers: Sequence[Optimizer], losses: Losses) -> Sequence[Tensor]:
    evaluated = losses()
    if len(evaluated) != len(optimizers):
        raise ValueError(
            f"losses must return one loss for each of {len(optimizers)} optimizers, got {len(evaluated)}"
        )
    return evaluated


def _write_gradients(optimizer: Optimizer, loss: Tensor) -> None:
    """Set the ``.grad`` of a player's parameters to the gradient of the player's own loss."""
    params = [param for param in _params(optimizer) if param.requires_grad]
    # The graph is kept, because the players' losses may share it.
    grads = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad


@contextmanager
def _taken_back(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Restore parameters, options and state at the end of the context. Gradients are kept."""
    before = [
        ([param.detach().clone() for param in _params(optimizer)], copy.deepcopy(optimizer.state_dict()))
        for optimizer in optimizers
    ]
    try:
        yield
    finally:
        for optimizer, (params, state) in zip(optimizers, before, strict=True):
            with torch.no_grad():
                for param, value in zip(_params(optimizer), params, strict=True):
                    param.copy_(value)
            optimizer.load_state_dict(state)


def _params(optimizer: Optimizer) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]
