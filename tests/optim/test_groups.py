import io
import math

import pytest
import torch

from rl_rms import HalfLife, RMSprop
from rl_rms.optim.groups import GroupRMSprop, group_gradients
from tests.naming import naming

FLAGS = [False, True]


def one_parameter(**options):
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    return param, GroupRMSprop([param], **{"lr": 1.0, "half_life": 1, "eps": 0.0, **options})


def step(optimizer, weights=None, **gradients):
    optimizer.step({name: [torch.tensor([float(g)]).double()] for name, g in gradients.items()}, weights)


def train(optimizer, updates, seed=0):
    """Take steps with random gradients of two groups.

    Group 1 has a hundred times larger gradients and is absent in every third step.
    """
    generator = torch.Generator().manual_seed(seed)
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for update in range(updates):
        gradients = {
            label: [scale * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in params]
            for label, scale in ((0, 1.0), (1, 100.0))
        }
        optimizer.step(gradients if update % 3 else {0: gradients[0]}, {0: 3, 1: 1})


# -- hand-computed values ---------------------------------------------------------------------------------


def test_step_divides_each_group_by_its_root_second_moment():
    param, optimizer = one_parameter()
    step(optimizer, loud=1000, quiet=1)
    assert param.item() == pytest.approx(-1)
    # rho = 1/2: v of loud is 1000**2 / 4, and v of quiet is 1/4 + 49/2 = 24.75. Bias correction divides by 3/4.
    step(optimizer, loud=0, quiet=-7)
    assert param.item() == pytest.approx(-1 + 0.5 * 7 / math.sqrt(24.75 / 0.75))


def test_step_weights_groups_equally_or_as_given():
    param, optimizer = one_parameter()
    step(optimizer, loud=1000, quiet=-1)
    assert param.item() == pytest.approx(0)
    step(optimizer, {"loud": 10, "quiet": 30, "away": 5}, loud=1000, quiet=-1)
    assert param.item() == pytest.approx(0.75 - 0.25)


def test_step_without_a_group_keeps_its_state_and_reweights_the_others():
    param, optimizer = one_parameter()
    step(optimizer, a=3, b=4)
    step(optimizer, a=3)
    assert param.item() == pytest.approx(-2)
    groups = optimizer.state[param]["groups"]
    assert [float(groups[label]["step"]) for label in "ab"] == [2, 1]
    assert [groups[label]["square_avg"].item() for label in "ab"] == [9 * 0.75, 16 * 0.5]


def test_equalized_noise_equals_hand_computed_values():
    param, optimizer = one_parameter(equalize=True)
    # After one gradient g the variance is rho g**2 = g**2 / 2.
    step(optimizer, loud=4, quiet=1)
    alike = math.sqrt((16 + 1) / 2)
    assert param.item() == pytest.approx(-1)
    common = optimizer.state[param]["common"]
    assert common["square_avg"].item() == pytest.approx(0.5 * alike**2)
    # loud: v = 16/4 + 16/2 = 12, m = 4/4 - 4/2 = -1; quiet: v = 3/4, m = 3/4. Bias correction divides by 3/4.
    step(optimizer, loud=-4, quiet=1)
    loud, quiet = (12 - 1) / 0.75, (3 / 4 - 9 / 16) / 0.75
    alike_now = math.sqrt((loud + quiet) / 2)
    g = 0.5 * (-4 * alike_now / math.sqrt(loud) + alike_now / math.sqrt(quiet))
    v = 0.25 * alike**2 + 0.5 * g**2
    assert param.item() == pytest.approx(-1 - g / math.sqrt(v / 0.75))


def test_equalized_noise_keeps_the_signal_of_a_quiet_group():
    ends = {}
    for name, equalize in (("by group", False), ("equalized", True)):
        param, optimizer = one_parameter(lr=0.01, half_life=69, equalize=equalize)
        generator = torch.Generator().manual_seed(0)
        for noise in torch.randn(400, 2, generator=generator).tolist():
            step(optimizer, noisy=100 * noise[0], quiet=1 + noise[1])
        ends[name] = param.item()
    assert ends["by group"] < -1.0
    assert ends["equalized"] < -1.0
    param = torch.zeros(1, requires_grad=True)
    together = RMSprop([param], lr=0.01, bias_correction=True)
    for noise in torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).tolist():
        param.grad = torch.tensor([0.5 * (100 * noise[0] + 1 + noise[1])])
        together.step()
    assert param.item() > -0.5


# -- equal to RMSprop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("equalize", FLAGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_step_of_one_group_equals_rmsprop(equalize, dtype):
    ours, theirs = (torch.nn.Parameter(torch.ones(3, 2, dtype=dtype)) for _ in range(2))
    grouped = GroupRMSprop([ours], lr=0.1, half_life="5 updates", eps=1e-3, equalize=equalize)
    plain = RMSprop([theirs], lr=0.1, half_life=5, eps=1e-3, bias_correction=True)
    for scale in (1.0, 30.0, 0.0, 1e-3, 2.0):
        theirs.grad = scale * torch.randn(3, 2, dtype=dtype, generator=torch.Generator().manual_seed(1))
        grouped.step({"all": [theirs.grad.clone()]}, {"all": 7.0})
        plain.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


# -- conventions of torch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("equalize", FLAGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_load_state_dict_continues_exactly(equalize, dtype):
    def make():
        params = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in ((3, 2), ())]
        groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.5}]
        return params, GroupRMSprop(groups, lr=0.1, half_life=7, equalize=equalize)

    params, optimizer = make()
    train(optimizer, 5)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    others, other = make()
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        for param, its in zip(others, params, strict=True):
            param.copy_(its)
    for one in (optimizer, other):
        train(one, 5, seed=1)
    assert all(torch.equal(*pair) for pair in zip(params, others, strict=True))


def test_learning_rate_scheduler_sets_the_rate():
    param, optimizer = one_parameter()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    step(optimizer, a=1)
    schedule.step()
    step(optimizer, a=1)
    assert param.item() == pytest.approx(-1.1)


def test_step_keeps_parameters_without_gradients():
    params = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    for equalize in FLAGS:
        optimizer = GroupRMSprop(params, lr=1.0, equalize=equalize)
        optimizer.step({0: [torch.ones(2), None], 1: [-torch.ones(2), None]})
        assert params[1].tolist() == [0, 0]


def test_half_life_in_steps_is_converted():
    half_lives = [
        GroupRMSprop([torch.zeros(1)], half_life=one, steps_per_update=80).param_groups[0]["half_life"]
        for one in ("20_000 steps", HalfLife(20_000, "steps"), 250)
    ]
    assert half_lives == [250, 250, 250]


# -- gradients by group -----------------------------------------------------------------------------------


def test_group_gradients_equal_the_gradients_of_each_mean_loss():
    layer, unused = torch.nn.Linear(3, 1), torch.nn.Parameter(torch.zeros(2))
    layer.bias.requires_grad_(False)
    x, groups = torch.randn(10, 3), torch.tensor([2, 0, 0, 2, 2, 0, 0, 0, 0, 0])
    result = group_gradients(layer(x).squeeze(1).square(), groups, [*layer.parameters(), unused])
    assert list(result) == [0, 2]
    assert layer.weight.grad is None
    for label, gradients in result.items():
        layer.zero_grad()
        layer(x[groups == label]).square().mean().backward()
        torch.testing.assert_close(gradients[0], layer.weight.grad)
        assert gradients[1:] == [None, None]


def test_step_of_actor_and_critic_updates_both():
    # The advantages of one group have another scale, which changes the policy gradient but not the normalized
    # gradient.
    actor, critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    params = [*actor.parameters(), *critic.parameters()]
    optimizer = GroupRMSprop(params, lr=0.05, half_life=20)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        groups = torch.arange(32) % 2
        x = torch.nn.functional.one_hot(groups, 2).float()
        policy = torch.distributions.Categorical(logits=actor(x))
        actions = torch.multinomial(policy.probs, 1, generator=generator).squeeze(1)
        returns = torch.where(actions == groups, 1.0, -1.0) * torch.where(groups == 1, 100.0, 1.0)
        values = critic(x).squeeze(1)
        losses = -policy.log_prob(actions) * (returns - values).detach() + 0.5 * (returns - values).square()
        optimizer.step(group_gradients(losses, groups, params))
    assert actor(torch.eye(2)).softmax(1).diagonal().min() > 0.9


# -- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, ("lr", ">= 0", "-1.0")),
        ({"lr": "1"}, ("lr", ">= 0", "'1'")),
        ({"lr": True}, ("lr", ">= 0", "True")),
        ({"eps": None}, ("eps", ">= 0", "None")),
        ({"equalize": "false"}, ("equalize", "True", "False", "'false'")),
        ({"steps_per_update": "5"}, ("steps_per_update", "'5'")),
        ({"eps": -1.0}, ("eps", ">= 0")),
        ({"half_life": 0}, ("half_life", "> 0")),
        ({"half_life": "20_000 steps"}, ("steps_per_update",)),
    ],
)
def test_constructor_with_a_wrong_option_names_it(options, message):
    with pytest.raises(ValueError, match=naming(*message)):
        GroupRMSprop([torch.zeros(1)], **options)


@pytest.mark.parametrize(
    ("gradients", "weights", "message"),
    [
        ({}, None, ("group",)),
        ({0: []}, None, ("gradients[0]", "1 parameters", "0")),
        ({0: [torch.ones(1)], 1: [torch.ones(1)]}, {0: 1.0}, ("weights", "[1]")),
        ({0: [torch.ones(1)]}, {0: -1.0}, ("weights", ">= 0")),
        ({0: [torch.ones(1)]}, {0: 0.0, 1: 1.0}, ("weights", ">= 0")),
        ({0: [torch.ones(1)]}, {0: math.nan}, ("weights", ">= 0")),
    ],
)
def test_step_with_wrong_gradients_raises_before_any_change(gradients, weights, message):
    param = torch.nn.Parameter(torch.zeros(1))
    optimizer = GroupRMSprop([param])
    with pytest.raises(ValueError, match=naming(*message)):
        optimizer.step(gradients, weights)
    assert not optimizer.state
    assert param.item() == 0


@pytest.mark.parametrize(
    ("losses", "groups", "message"),
    [
        (torch.ones(()), torch.zeros(3, dtype=torch.long), ("()", "(3,)", "flatten")),
        (torch.ones(3), torch.zeros(2, dtype=torch.long), ("(3,)", "(2,)")),
        (torch.ones(3), torch.zeros(3), ("whole numbers", "torch.float32")),
    ],
)
def test_group_gradients_of_wrong_samples_raises(losses, groups, message):
    with pytest.raises(ValueError, match=naming(*message)):
        group_gradients(losses, groups, [torch.zeros(1, requires_grad=True)])


@pytest.mark.parametrize(("half_life", "updates"), [("69 updates", 69), ("20_000 steps", 250), (7, 7)])
def test_half_life_of_one_parameter_group_has_the_units_of_the_constructor(half_life, updates):
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "half_life": half_life}]
    optimizer = GroupRMSprop(groups, half_life=20, steps_per_update=80)
    optimizer.step({0: [torch.ones(1)]})
    assert optimizer.param_groups[0]["half_life"] == updates


def test_steps_per_update_can_be_set_after_the_construction():
    optimizer = GroupRMSprop([torch.nn.Parameter(torch.ones(1))])
    optimizer.steps_per_update = 80
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "half_life": "20_000 steps"})
    assert optimizer.param_groups[1]["half_life"] == 250
