import copy
import math

import pytest
import torch

from rl_rms import RMSprop
from rl_rms.optim.games import cycle_radius, play_round
from tests.naming import naming


def bilinear(make, x=1.0, y=1.0):
    """A function that plays a round of the game ``x * y``, and its players: x minimizes, y maximizes."""
    params = [torch.nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in (x, y)]
    players = [make([param]) for param in params]

    def losses():
        value = (params[0] * params[1]).sum()
        return value, -value

    def play(how):
        values = play_round(players, losses, how)
        return [param.item() for param in params], values

    return play, players


def sgd(params):
    return torch.optim.SGD(params, lr=0.5)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # The gradients at (1, 1) are 1 and -1.
        ("simultaneous", [0.5, 1.5]),
        # The gradient of the second player at (0.5, 1) is -0.5.
        ("alternating", [0.5, 1.25]),
        # The gradients at the trial point (0.5, 1.5) are 1.5 and -0.5.
        ("extragradient", [0.25, 1.25]),
    ],
)
def test_round_equals_hand_computed_values(how, expected):
    play, _ = bilinear(sgd)
    point, values = play(how)
    assert point == expected
    assert values == [1.0, -1.0]


def test_extragradient_second_moment_uses_only_look_ahead_gradients():
    play, players = bilinear(lambda params: RMSprop(params, lr=0.5, rho=0.5, eps=0.0, bias_correction=True))
    # A first step has length lr. The trial point is (0.5, 1.5), with the gradients 1.5 and -0.5.
    assert play("extragradient")[0] == pytest.approx([0.5, 1.5], rel=1e-12)
    first, second = (next(iter(player.state.values())) for player in players)
    assert first["square_avg"].item() == pytest.approx(0.5 * 1.5**2)
    assert second["square_avg"].item() == pytest.approx(0.5 * 0.5**2)
    assert first["step"].item() == 1.0
    # The gradients at (0.5, 1.5) equal the accumulated gradients, so the trial steps have length lr. The gradients
    # at the trial point (0, 2) are 2 and 0.
    point, _ = play("extragradient")
    v = (0.25 * 1.5**2 + 0.5 * 2.0**2) / 0.75
    assert point == pytest.approx([0.5 - 0.5 * 2.0 / math.sqrt(v), 1.5], rel=1e-12)


OPTIMIZERS = {
    "momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.1),
    "RMSprop": lambda params: RMSprop(params, lr=0.1, momentum=0.5, optimism=1.0, centered=True),
    "not fused": lambda params: RMSprop(params, lr=0.1, optimism=1.0, fused=False),
    "guarded": lambda params: RMSprop(params, lr=0.1, max_grad_norm=0.3, half_life="auto", bias_correction=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_extragradient_equals_a_trial_step_on_a_copy(make):
    play, _ = bilinear(make)
    x, y = (torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    players = [make([x]), make([y])]
    for _ in range(70):  # more than four blocks of the half-life's estimator
        trial_x, trial_y, trial_players = copy.deepcopy((x, y, players))
        for one, other, sign, player in ((trial_x, y, 1, trial_players[0]), (trial_y, x, -1, trial_players[1])):
            one.grad = sign * other.detach().clone()
            player.step()
        x.grad, y.grad = trial_y.detach().clone(), -trial_x.detach()
        for player in players:
            player.step()
        point, _ = play("extragradient")
    assert point == pytest.approx([x.item(), y.item()], rel=1e-9)
    assert math.hypot(*point) != pytest.approx(math.sqrt(2), rel=1e-3)


def test_extragradient_guard_counts_only_kept_steps():
    play, players = bilinear(OPTIMIZERS["guarded"])
    for _ in range(5):
        play("extragradient")
    assert [player.guard.num_updates for player in players] == [5, 5]


def test_extragradient_failed_look_ahead_loss_keeps_the_players():
    x = torch.nn.Parameter(torch.ones(1))
    player, calls = torch.optim.SGD([x], lr=0.1, momentum=0.9), []

    def losses():
        calls.append(x.item())
        if len(calls) == 2:
            raise RuntimeError("off the board")
        return [x.square().sum()]

    with pytest.raises(RuntimeError, match="off the board"):
        play_round([player], losses, "extragradient")
    assert calls[1] == pytest.approx(0.8)
    assert x.item() == 1.0
    assert not player.state


@pytest.mark.parametrize("how", ["simultaneous", "alternating", "extragradient"])
def test_round_updates_each_player_by_its_own_loss(how):
    # The game is not zero-sum, and the second player's loss does not depend on its unused parameter.
    x, y, unused = (torch.nn.Parameter(torch.ones(1)) for _ in range(3))
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    players = [torch.optim.SGD([x, frozen], lr=0.1), torch.optim.SGD([y, unused], lr=0.1)]
    play_round(players, lambda: ((x * frozen).sum() + 5 * y.sum(), 3 * y.sum() + 7 * x.sum()), how)
    assert (x.item(), y.item()) == pytest.approx((0.9, 0.7))
    assert frozen.item() == unused.item() == 1.0


def test_play_round_with_a_wrong_argument_names_it():
    play, players = bilinear(sgd)
    with pytest.raises(ValueError, match=naming("play", "'simultaneous'", "'alternating'", "'extragradient'")):
        play("by turns")
    with pytest.raises(ValueError, match=naming("losses", "2 optimizers", "1")):
        play_round(players, lambda: [torch.ones(())])


@pytest.mark.parametrize(
    ("rho", "options"),
    [
        (0.9, {}),
        (0.99, {}),
        (0.99, {"momentum": 0.5}),
        (0.99, {"momentum": -0.5}),
        (0.99, {"optimism": 0.25}),
        (0.99, {"momentum": 0.5, "optimism": 1.0}),
    ],
    ids=str,
)
@pytest.mark.parametrize("start", [0.7, 1.4])
def test_rmsprop_in_a_bilinear_game_circles_at_the_radius_of_the_formula(rho, options, start):
    radius = cycle_radius(0.01, rho, **options)
    play, _ = bilinear(
        lambda params: RMSprop(params, lr=0.01, rho=rho, eps=1e-12, bias_correction=True, **options),
        start * radius,
        0.0,
    )
    last = [math.hypot(*play("simultaneous")[0]) for _ in range(3_000)][-1_000:]
    assert math.sqrt(sum(r * r for r in last) / len(last)) == pytest.approx(radius, rel=0.06)


def test_limit_cycle_radius_equals_hand_computed_values():
    assert cycle_radius(0.1, 0.99) == pytest.approx(2 * math.sqrt(2))
    assert cycle_radius(0.1, 0.99, momentum=0.5) == pytest.approx(4 * math.sqrt(6))
    assert cycle_radius(0.1, 0.99, optimism=0.5) == 0.0
