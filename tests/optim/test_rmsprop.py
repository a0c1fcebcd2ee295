import copy
import functools
import inspect
import io
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_rms import HalfLife, RMSprop
from rl_rms.optim.kernels.foreach import ForeachKernel
from tests.naming import naming

SHAPES = [(3, 4), (5,), ()]
FLAGS = [False, True]
OURS_ALONE = {
    "half_life",
    "bias_correction",
    "eps_in_sqrt",
    "initial_second_moment",
    "decoupled_weight_decay",
    "nesterov",
    "lr_in_momentum",
    "cautious",
    "optimism",
    "max_update_rms",
    "fused",
}


@pytest.fixture(autouse=True, params=["fused", "plain"])
def path(request, monkeypatch):
    """Runs every test with and without uniform batches."""
    if request.param == "plain":
        monkeypatch.setattr("rl_rms.optim.plan.allows_uniform", lambda group: False)


def parameters(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, dtype=dtype, generator=generator)) for shape in SHAPES]


def step(optimizer, updates=1, seed=1):
    """Take steps with random gradients of very different sizes. The gradients depend only on the seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        scale = 10.0 ** torch.randn((), generator=generator).item()
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = scale * torch.randn(param.shape, dtype=param.dtype, generator=generator)
        optimizer.step()


def weights(optimizer):
    return [param.detach() for group in optimizer.param_groups for param in group["params"]]


def assert_close(ours, theirs, tolerance=1e-10):
    for mine, other in zip(weights(ours), weights(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def one_parameter(grad=1.0, **options):
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    param.grad = torch.full_like(param, grad)
    return param, RMSprop([param], **options)


# -- equal to other libraries -----------------------------------------------------------------------------


def test_positional_arguments_equal_torch():
    theirs = list(inspect.signature(torch.optim.RMSprop).parameters)
    assert list(inspect.signature(RMSprop).parameters)[: len(theirs)] == theirs
    assert RMSprop(parameters(), 0.1, 0.9, 1e-3, 0.2, 0.5, True).rho == 0.9


def test_defaults_equal_torch():
    ours, theirs = RMSprop(parameters()), torch.optim.RMSprop(parameters())
    assert {name: value for name, value in ours.defaults.items() if name not in OURS_ALONE} == theirs.defaults
    assert ours.defaults.keys() - theirs.defaults.keys() == OURS_ALONE


@pytest.mark.parametrize(
    ("momentum", "centered", "weight_decay", "maximize", "dtype", "tolerance", "foreach"),
    [
        *itertools.product([0.0, 0.9], FLAGS, [0.0, 0.1], FLAGS, [torch.float64], [1e-10], FLAGS),
        (0.9, True, 0.1, True, torch.float32, 2e-5, False),
        (0.9, True, 0.1, True, torch.float32, 2e-5, True),
        (0.9, True, 0.1, True, torch.complex128, 1e-10, False),
        (0.9, True, 0.1, True, torch.complex128, 1e-10, True),
    ],
)
def test_step_equals_torch(momentum, centered, weight_decay, maximize, dtype, tolerance, foreach):
    options = {
        "lr": 0.01,
        "alpha": 0.9,
        "eps": 1e-3,
        "momentum": momentum,
        "centered": centered,
        "weight_decay": weight_decay,
        "maximize": maximize,
        "foreach": foreach,
    }
    ours, theirs = RMSprop(parameters(dtype), **options), torch.optim.RMSprop(parameters(dtype), **options)
    for optimizer in (ours, theirs):
        step(optimizer, 25)
    assert_close(ours, theirs, tolerance)


@pytest.mark.parametrize(
    "options", [{"bias_correction": True}, {"decoupled_weight_decay": True, "weight_decay": 0.1}]
)
def test_own_options_apply_to_the_foreach_and_the_single_tensor_path(options):
    plain, foreach, without = (
        RMSprop(parameters(), **chosen) for chosen in (options, options | {"foreach": True}, {})
    )
    for optimizer in (plain, foreach, without):
        step(optimizer, 5)
    assert_close(plain, foreach)
    with pytest.raises(AssertionError):
        assert_close(plain, without, 1e-4)


@pytest.mark.parametrize("foreach", FLAGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_single_precision_state(dtype, foreach):
    optimizer = RMSprop(parameters(dtype), foreach=foreach, momentum=0.9, centered=True)
    step(optimizer, 3)
    assert all(torch.isfinite(param).all() and param.dtype == dtype for param in weights(optimizer))
    for state in optimizer.state.values():
        assert {state[name].dtype for name in ("square_avg", "grad_avg", "momentum_buffer")} == {torch.float32}


# -- names of the decay -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay", "rho"),
    [
        ({}, 0.99),
        ({"alpha": 0.9}, 0.9),
        ({"rho": 0.0}, 0.0),
        ({"half_life": 1}, 0.5),
        ({"half_life": "2 updates"}, 0.5**0.5),
        ({"half_life": HalfLife(1)}, 0.5),
        ({"half_life": "80 steps", "steps_per_update": 40}, 0.5**0.5),
    ],
)
def test_half_life_rho_and_alpha_are_equivalent(decay, rho):
    optimizer = RMSprop(parameters(), **decay)
    assert optimizer.rho == pytest.approx(rho)
    assert optimizer.param_groups[0]["alpha"] == optimizer.rho
    assert 0.5 ** (1 / optimizer.half_life) == pytest.approx(rho) if rho else optimizer.half_life == 0


@pytest.mark.parametrize(
    ("decay", "given"),
    [
        ({"half_life": 69, "rho": 0.9}, ("half_life=69", "rho=0.9")),
        ({"rho": 0.9, "alpha": 0.9}, ("rho=0.9", "alpha=0.9")),
        ({"half_life": 1, "rho": 0.5, "alpha": 0.5}, ("half_life=1", "rho=0.5", "alpha=0.5")),
    ],
)
def test_two_names_of_the_decay_raise(decay, given):
    with pytest.raises(ValueError, match=naming(*given)):
        RMSprop(parameters(), **decay)
    with pytest.raises(ValueError, match=naming(*given)):
        RMSprop([{"params": parameters(), **decay}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, ("lr", ">= 0", "-0.1")),
        ({"lr": torch.tensor(-0.1)}, ("lr", ">= 0", "tensor")),
        ({"lr": torch.ones(2)}, ("lr", "one element", "(2,)")),
        ({"momentum": float("nan")}, ("momentum", "> -1", "nan")),
        ({"rho": 1.0}, ("rho", "[0, 1)", "1.0")),
        ({"alpha": 1.5}, ("alpha", "[0, 1)", "1.5")),
        ({"half_life": -3}, ("half_life", "> 0")),
        ({"half_life": "3 episodes"}, ("half_life", "'3 episodes'")),
        ({"nesterov": True}, ("nesterov=True", "momentum=0")),
    ],
)
def test_constructor_with_a_wrong_option_names_it(options, message):
    with pytest.raises(ValueError, match=naming(*message)):
        RMSprop(parameters(), **options)
    with pytest.raises(ValueError, match=naming(*message)):
        RMSprop([{"params": parameters(), **options}])


@pytest.mark.parametrize("name", ["alpha", "rho", "max_step", "steps_per_update"])
@pytest.mark.parametrize("value", ["0.5", True, float("nan"), -1, [0.5]])
def test_constructor_with_a_non_numeric_option_names_it(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        RMSprop(parameters(), **{name: value})
    assert repr(value) in str(caught.value)
    RMSprop(parameters(), **{name: np.float32(0.5)})


def test_set_steps_per_update_that_is_not_a_number_raises():
    optimizer = RMSprop(parameters(), half_life="100 steps", steps_per_update=np.int64(5))
    assert optimizer.half_life == 20.0
    with pytest.raises(ValueError, match=naming("steps_per_update", "'5'")):
        optimizer.steps_per_update = "5"
    assert optimizer.half_life == 20.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half_life_bounds": (5, 2)}, ("bounds", "0 < shortest <= longest", "(5, 2)")),
        ({"max_step": 0}, ("max_step", "> 0", "None")),
        (
            {"estimator": "oracle"},
            ("estimator", "HalfLifeEstimator", "'oracle'"),
        ),
        ({"timescale": "soon"}, ("timescale", "'soon'")),
        ({"like": "jax"}, ("like", "'torch'", "'rmsprop_tf_like'", "'jax'")),
        ({"like": "optax"}, ("like='optax'", "lr")),
    ],
)
def test_constructor_with_a_wrong_global_option_names_it(options, message):
    with pytest.raises(ValueError, match=naming(*message)):
        RMSprop(parameters(), **options)


def test_set_half_life_changes_rho():
    optimizer = RMSprop(parameters(), half_life="20_000 steps", steps_per_update=80)
    optimizer.half_life = 1
    assert (optimizer.rho, optimizer.half_life, optimizer.param_groups[0]["half_life"]) == (0.5, 1.0, None)
    optimizer.half_life = "160 steps"
    assert (optimizer.half_life, optimizer.param_groups[0]["half_life"]) == (2.0, "160 steps")
    optimizer.rho = 0.9
    assert optimizer.param_groups[0]["alpha"] == 0.9
    assert optimizer.param_groups[0]["half_life"] is None
    with pytest.raises(ValueError, match=naming("rho", "[0, 1)")):
        optimizer.rho = 1.0
    with pytest.raises(TypeError, match=naming("half_life", "None")):
        optimizer.half_life = None
    assert optimizer.rho == 0.9


def test_set_half_life_applies_to_the_next_step():
    param, optimizer = one_parameter(4.0, half_life=100)
    optimizer.half_life = 1
    optimizer.step()
    assert optimizer.state[param]["square_avg"].item() == 8.0


def test_groups_have_their_own_half_lives():
    first, second, third = parameters()
    optimizer = RMSprop([{"params": first, "rho": 0.5}, {"params": second}], half_life=2)
    optimizer.add_param_group({"params": third, "half_life": "80 steps"})
    optimizer.steps_per_update = 20
    step(optimizer)
    assert [group["alpha"] for group in optimizer.param_groups] == pytest.approx([0.5, 2**-0.5, 2**-0.25])
    for param, rho in ((first, 0.5), (second, 2**-0.5), (third, 2**-0.25)):
        expected = (1 - rho) * param.grad.square()
        torch.testing.assert_close(optimizer.state[param]["square_avg"], expected)
    assert optimizer.half_life == pytest.approx(1.0)


@pytest.mark.parametrize("given", [1, "1 updates", 1.0])
def test_half_life_that_is_assigned_to_one_group_is_used_and_saved(given):
    optimizer = RMSprop([{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)], half_life=20)
    optimizer.param_groups[0]["half_life"] = given
    assert optimizer.half_life == 1.0
    optimizer.step()
    again = RMSprop([{"params": group["params"]} for group in optimizer.param_groups])
    again.load_state_dict(optimizer.state_dict())
    assert again.half_life == 1.0
    assert [group["alpha"] for group in again.param_groups] == pytest.approx([0.5, 2 ** (-1 / 20)])


@pytest.mark.parametrize("name", ["max_grad_norm", "on_nonfinite", "like", "estimator", "steps_per_update"])
def test_option_of_all_groups_in_one_group_raises(name):
    group = {"params": [torch.nn.Parameter(torch.ones(1))], "name": "actor", name: 1}
    with pytest.raises(ValueError, match=naming(name, "constructor")):
        RMSprop([group])


def test_add_param_group_takes_the_half_life_that_was_set():
    first, second, _ = parameters()
    group = {"params": [second], "lr": 0.5}
    optimizer = RMSprop([first], half_life=2)
    optimizer.half_life = "10 steps"
    optimizer.add_param_group(group)
    assert optimizer.param_groups[1]["half_life"] == "10 steps"
    assert group == {"params": [second], "lr": 0.5}


# -- half-lives in env steps ------------------------------------------------------------------------------


def test_half_life_in_steps_with_varying_updates_weights_env_steps():
    param, optimizer = one_parameter(half_life="40 steps", bias_correction=True)
    for grad, steps in ((3.0, 30), (5.0, 50)):
        param.grad.fill_(grad)
        optimizer.steps_per_update = steps
        optimizer.step()
    first, second = 2 ** (-30 / 40), 2 ** (-50 / 40)
    state = optimizer.state[param]
    assert state["square_avg"].item() == pytest.approx(9 * (1 - first) * second + 25 * (1 - second), rel=1e-12)
    assert state["initial_weight"] == pytest.approx(2 ** (-80 / 40), rel=1e-12)
    assert optimizer.param_groups[0]["alpha"] == pytest.approx(second)
    assert optimizer.half_life == pytest.approx(0.8)


@pytest.mark.parametrize("splits", [[80], [40, 40], [10, 30, 40]])
def test_half_life_in_steps_is_independent_of_the_split_into_updates(splits):
    param, optimizer = one_parameter(3.0, half_life="40 steps")
    for steps in splits:
        optimizer.steps_per_update = steps
        optimizer.step()
    assert optimizer.state[param]["square_avg"].item() == pytest.approx(9 * (1 - 2**-2), rel=1e-12)


def test_step_without_steps_per_update_raises_before_any_change():
    first, second, _ = parameters()
    optimizer = RMSprop([{"params": first}, {"params": second, "half_life": "20_000 steps"}])
    before = [param.clone() for param in (first, second)]
    named = naming("half_life", "'20000 steps'", "steps_per_update=None", "rl_rms.sb3.HalfLifeCallback")
    with pytest.raises(ValueError, match=named):
        step(optimizer)
    assert not optimizer.state
    assert all(torch.equal(*pair) for pair in zip((first, second), before, strict=True))
    only = RMSprop([first], half_life="20_000 steps")
    for read in ("half_life", "rho"):
        with pytest.raises(ValueError, match=naming("steps_per_update=None")):
            getattr(only, read)


# -- state ------------------------------------------------------------------------------------------------

ALL_STATE = {"momentum": 0.9, "centered": True, "alpha": 0.9, "lr": 0.01, "eps": 1e-3}


@pytest.mark.parametrize("foreach", FLAGS)
def test_load_state_dict_of_torch_continues(foreach):
    theirs = torch.optim.RMSprop(parameters(), **ALL_STATE)
    step(theirs, 5)
    ours = RMSprop(weights_copy(theirs), half_life=20, foreach=foreach)
    ours.load_state_dict(theirs.state_dict())
    assert ours.rho == 0.9
    assert all(state["initial_weight"] == pytest.approx(0.9**5) for state in ours.state.values())
    for optimizer in (ours, theirs):
        step(optimizer, 10, seed=2)
    assert_close(ours, theirs)


def test_load_state_dict_keeps_options_that_the_state_dict_lacks():
    theirs = torch.optim.RMSprop(parameters(), alpha=0.9)
    step(theirs, 5)
    ours = RMSprop(weights_copy(theirs), half_life="20 steps", steps_per_update=10, bias_correction=True)
    ours.load_state_dict(theirs.state_dict())
    assert (ours.half_life, ours.param_groups[0]["bias_correction"]) == (2.0, True)


def test_torch_load_state_dict_of_rmsprop_continues():
    ours = RMSprop(parameters(), half_life=7, momentum=0.9, centered=True, eps=1e-3)
    step(ours, 5)
    theirs = torch.optim.RMSprop(weights_copy(ours))
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for optimizer in (ours, theirs):
        step(optimizer, 10, seed=2)
    assert_close(ours, theirs)


def weights_copy(optimizer):
    return [torch.nn.Parameter(weight.clone()) for weight in weights(optimizer)]


def saved_and_loaded(optimizer):
    """Save to a file and load with weights_only=True, as Stable-Baselines3 does."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = RMSprop(weights_copy(optimizer), rho=0.5)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize(
    "copied", [saved_and_loaded, copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))]
)
def test_deepcopy_continues_equally(copied):
    original = RMSprop(
        parameters(), half_life="70 steps", steps_per_update=10, bias_correction=True, momentum=-0.5, optimism=1.0
    )
    step(original, 5)
    assert all("previous_update" in state for state in original.state.values())
    other = copied(original)
    other.steps_per_update = 10
    assert other.state_dict()["param_groups"] == original.state_dict()["param_groups"]
    for optimizer in (original, other):
        step(optimizer, 5, seed=2)
    assert_close(original, other, 0)
    assert other.half_life == 7.0


def test_load_state_dict_of_an_unconverted_half_life_keeps_it():
    optimizer = RMSprop(parameters())
    step(optimizer)
    optimizer.half_life = "20 steps"
    loaded = saved_and_loaded(optimizer)
    loaded.steps_per_update = 10
    assert loaded.half_life == 2.0


def test_load_state_dict_without_steps_per_update_has_the_half_life_of_the_last_update():
    saved = RMSprop(parameters(), half_life="80 steps", steps_per_update=40)
    step(saved)
    loaded = RMSprop(parameters())
    loaded.load_state_dict(saved.state_dict())
    assert loaded.half_life == pytest.approx(2.0)
    assert loaded.rho == pytest.approx(0.5**0.5)
    with pytest.raises(ValueError, match=naming("steps_per_update=None")):
        step(loaded)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_deepcopy_keeps_steps_per_update(copied):
    assert copied(RMSprop(parameters(), steps_per_update=10)).steps_per_update == 10


def test_load_state_dict_converts_with_the_current_steps_per_update():
    saved = RMSprop(parameters(), half_life="80 steps", steps_per_update=80)
    step(saved)
    loaded = RMSprop(parameters(), half_life=69, steps_per_update=40)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.half_life == 2.0
    step(loaded)
    assert loaded.param_groups[0]["alpha"] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_load_state_dict_keeps_the_state_precision_of_half_precision(dtype):
    saved = RMSprop(parameters(dtype), momentum=0.9, optimism=1.0, centered=True)
    step(saved, 3)
    loaded = saved_and_loaded(saved)
    for mine, other in zip(loaded.state.values(), saved.state.values(), strict=True):
        for name in ("square_avg", "grad_avg", "momentum_buffer", "previous_update", "step"):
            assert mine[name].dtype == torch.float32
            assert torch.equal(mine[name], other[name])
            assert mine[name] is not other[name]


def test_load_state_dict_of_older_torch_is_accepted():
    optimizer = RMSprop(parameters(), rho=0.9)
    step(optimizer, 4)
    old = optimizer.state_dict()
    for state in old["state"].values():
        state["step"] = 4
        del state["initial_weight"]
    for group in old["param_groups"]:
        for name in ("maximize", "foreach", "differentiable", "capturable", *OURS_ALONE):
            del group[name]
    optimizer.load_state_dict(old)
    step(optimizer)
    for state in optimizer.state.values():
        assert state["step"].item() == 5
        assert state["initial_weight"] == pytest.approx(0.9**5)


def test_load_state_dict_pre_hook_may_replace_the_state():
    saved = RMSprop(parameters(torch.float16))
    step(saved)
    replaced = copy.deepcopy(saved.state_dict())
    for state in replaced["state"].values():
        state["square_avg"].fill_(7.0)
    loaded = RMSprop(parameters(torch.float16))
    loaded.register_load_state_dict_pre_hook(lambda optimizer, state_dict: replaced)
    loaded.load_state_dict(saved.state_dict())
    assert all((state["square_avg"] == 7).all() for state in loaded.state.values())


# -- conventions of torch ---------------------------------------------------------------------------------


def test_step_keeps_parameters_without_gradient():
    first, second, third = parameters()
    optimizer = RMSprop([first, second, third], weight_decay=0.1, foreach=True)
    before = second.detach().clone()
    first.grad, third.grad = torch.ones_like(first), torch.ones_like(third)
    optimizer.step()
    assert torch.equal(second, before)
    assert second not in optimizer.state
    optimizer.zero_grad()
    optimizer.step()
    assert optimizer.state[first]["step"].item() == 1


@pytest.mark.parametrize("bias_correction", FLAGS)
@pytest.mark.parametrize("foreach", FLAGS)
def test_step_counts_a_late_parameter_separately(foreach, bias_correction):
    early, late, _ = parameters()
    optimizer = RMSprop([early, late], lr=0.1, rho=0.9, eps=0, bias_correction=bias_correction, foreach=foreach)
    early.grad = torch.ones_like(early)
    optimizer.step()
    before = late.detach().clone()
    late.grad = torch.ones_like(late)
    optimizer.step()
    torch.testing.assert_close(
        before - late.detach(), torch.full_like(late, 0.1 if bias_correction else 0.1 / 0.1**0.5)
    )


@pytest.mark.parametrize("lr", [torch.tensor(0.05), torch.tensor([0.05]), torch.tensor(0.05, dtype=torch.float64)])
@pytest.mark.parametrize("foreach", FLAGS)
def test_learning_rate_as_a_tensor_is_used(lr, foreach):
    dtype = torch.float32
    ours = RMSprop(parameters(dtype), lr=lr, foreach=foreach, weight_decay=0.1, decoupled_weight_decay=True)
    same = RMSprop(parameters(dtype), lr=0.05, weight_decay=0.1, decoupled_weight_decay=True)
    for optimizer in (ours, same):
        step(optimizer, 5)
    assert_close(ours, same, 1e-5)


@pytest.mark.parametrize(
    "guard",
    [
        {},
        {"max_grad_norm": 1.0},
        {"max_tensor_norm": 1.0},
        {"max_grad_value": 1.0},
        {"max_grad_ratio": 2.0},
        {"on_nonfinite": "skip"},
        {"half_life": "auto"},
    ],
    ids=str,
)
def test_step_with_sparse_gradients_raises(guard):
    embedding = torch.nn.Embedding(10, 3, sparse=True)
    optimizer = RMSprop(embedding.parameters(), **guard)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=naming("sparse", "(10, 3)", "sparse=False")):
        optimizer.step()
    assert not optimizer.state


def test_capturable_state_has_tensors_instead_of_numbers():
    saved = RMSprop(parameters(), rho=0.9)
    step(saved, 2)
    state_dict = copy.deepcopy(saved.state_dict())
    state_dict["param_groups"][0]["capturable"] = True
    loaded = RMSprop(parameters(), capturable=True)
    loaded.load_state_dict(state_dict)
    for state in loaded.state.values():
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        assert state["initial_weight"].item() == pytest.approx(0.81)


COMPILED = [
    {},
    {"bias_correction": True},
    {"bias_correction": True, "lr": torch.tensor(0.1)},
    {"bias_correction": True, "centered": True, "momentum": 0.5, "nesterov": True},
    {"half_life": "auto", "half_life_bounds": (1.0, 1e6)},
    {"half_life": "match", "timescale": "100 updates"},
    {"half_life": "20 steps", "steps_per_update": 10},
    {"max_grad_norm": 0.1, "on_nonfinite": "skip"},
    {"max_tensor_norm": 0.1, "max_grad_value": 0.1, "max_grad_ratio": 1.5},
    {"weight_decay": 0.1, "decoupled_weight_decay": True, "optimism": 1.0, "cautious": True, "momentum": 0.5},
    {"max_update_rms": 0.5},
    {"like": "rmsprop_tf_like"},
    {"foreach": True, "bias_correction": True},
]


# torch's compiled step calls a function that torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
@pytest.mark.parametrize("whole", [False, True], ids=["step", "update"])
@pytest.mark.parametrize("options", COMPILED, ids=str)
def test_compiled_step_equals_the_eager_step_for_every_option(options, whole):
    torch.compiler.reset()
    compiled, eager = (RMSprop(parameters(), **copy.deepcopy(options)) for _ in range(2))

    def update(optimizer):
        params = optimizer.param_groups[0]["params"]
        optimizer.zero_grad()
        sum(((param - 1) ** 2).sum() for param in params).backward()
        optimizer.step()

    if whole:
        run = torch.compile(update, backend="eager")
        for _ in range(20):
            run(compiled)
            update(eager)
    else:
        compiled.step = torch.compile(compiled.step, backend="eager")
        step(compiled, 20)
        step(eager, 20)
    assert_close(compiled, eager)


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
def test_compiled_step_with_bias_correction_equals_the_rule():
    torch.compiler.reset()
    param = torch.nn.Parameter(torch.ones(1))
    optimizer = RMSprop([param], lr=0.01, rho=0.99, bias_correction=True)
    compiled = torch.compile(optimizer.step)
    for t in range(5):
        param.grad = torch.full((1,), 1.0 + t)
        compiled()
    v, expected = 0.0, 1.0
    for t in range(5):
        v = 0.99 * v + 0.01 * (1.0 + t) ** 2
        expected -= 0.01 * (1.0 + t) / ((v / (1 - 0.99 ** (t + 1))) ** 0.5 + 1e-8)
    assert param.item() == pytest.approx(expected, rel=1e-6)


def test_foreach_default_depends_on_the_device(monkeypatch):
    calls = []
    monkeypatch.setattr(ForeachKernel, "update", lambda *args, **_: calls.append(args))

    def uses_foreach(**options):
        calls.clear()
        optimizer = RMSprop(weights(RMSprop(parameters())), fused=False, **options)
        step(optimizer)
        return bool(calls)

    assert not uses_foreach()
    assert uses_foreach(foreach=True)
    monkeypatch.setattr("rl_rms.optim.kernels.foreach.DEVICES", {"cpu"})
    assert uses_foreach()
    assert not uses_foreach(foreach=False)
    assert not uses_foreach(differentiable=True)


# -- differentiable steps ---------------------------------------------------------------------------------


START = torch.tensor([1.0, -2.0], dtype=torch.float64)


def after_three_steps(start, optimizer_class=RMSprop, **options):
    param = start.clone()
    optimizer = optimizer_class([param], lr=0.01, eps=0.1, differentiable=True, **options)
    for _ in range(3):
        # A clone, because the step overwrites values that autograd needs.
        (param.grad,) = torch.autograd.grad((param.clone() ** 4).sum(), param, create_graph=True)
        optimizer.step()
    return param


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"maximize": True}])
def test_differentiable_steps_equal_torch(options):
    ours, theirs = (
        torch.autograd.functional.jacobian(lambda start, c=c: after_three_steps(start, c, **options), START)
        for c in (RMSprop, torch.optim.RMSprop)
    )
    assert theirs.diagonal().ne(0).all()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"centered": True}, {"bias_correction": True, "momentum": 0.9}, {"eps_in_sqrt": True}, {"optimism": 1.0}],
)
def test_differentiable_steps_equal_finite_differences(options):
    # torch's own centered step cannot be differentiated through more than one step.
    start = START.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda start: after_three_steps(start, **options), start)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.1, "decoupled_weight_decay": True}])
def test_gradient_of_the_learning_rate(options):
    # torch.optim.RMSprop raises an error for a learning rate that requires a gradient.
    def after(lr):
        param = torch.tensor([1.0, -2.0], dtype=torch.float64)
        optimizer = RMSprop([param], lr=lr, differentiable=True, **options)
        for grad in (3.0, -1.0, 2.0):
            param.grad = torch.full_like(param, grad)
            optimizer.step()
        return param

    assert torch.autograd.gradcheck(after, torch.tensor(0.01, dtype=torch.float64, requires_grad=True))


def test_load_state_dict_continues_an_estimate_within_its_block():
    def made():
        layer = torch.nn.Linear(3, 3)
        bounds = (1.0, 1e6)
        return layer, RMSprop(layer.parameters(), half_life="auto", half_life_bounds=bounds, bias_correction=True)

    def feed(layer, optimizer, updates):
        found = []
        for update in updates:
            for param in layer.parameters():
                generator = torch.Generator().manual_seed(update)
                param.grad = torch.randn(param.shape, generator=generator) * (10.0 if update > 30 else 1.0)
            optimizer.step()
            found.append(optimizer.half_life)
        return found

    layer, optimizer = made()
    feed(layer, optimizer, range(21))
    state = copy.deepcopy(optimizer.state_dict())
    other_layer, other = made()
    other.load_state_dict(state)
    again = copy.deepcopy(other.state_dict())  # saved again before the first step
    third_layer, third = made()
    third.load_state_dict(again)
    expected = feed(layer, optimizer, range(21, 80))
    assert feed(other_layer, other, range(21, 80)) == expected
    assert feed(third_layer, third, range(21, 80)) == expected
    assert len(set(expected)) > 2


def test_reset_clears_the_state_and_keeps_parameters_and_half_life():
    layer = torch.nn.Linear(3, 3)
    optimizer = RMSprop(layer.parameters(), lr=0.1, half_life=7, bias_correction=True, momentum=0.9)
    for _ in range(3):
        layer(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    before = [param.detach().clone() for param in layer.parameters()]
    optimizer.reset()
    assert all(torch.equal(one, other) for one, other in zip(layer.parameters(), before, strict=True))
    assert optimizer.half_life == pytest.approx(7)
    assert not optimizer.state
    for param in layer.parameters():
        param.grad = torch.full_like(param, 5.0)
    optimizer.step()
    # The first bias-corrected step has length lr, independent of earlier gradients.
    for param, old in zip(layer.parameters(), before, strict=True):
        torch.testing.assert_close(old - param, torch.full_like(old, 0.1))


def test_reset_before_the_first_step_changes_nothing():
    optimizer = RMSprop([torch.nn.Parameter(torch.ones(2))])
    optimizer.reset()
    assert not optimizer.state


def test_add_param_group_of_another_type_names_it():
    param = torch.nn.Parameter(torch.zeros(2))
    optimizer = RMSprop([param])
    with pytest.raises(TypeError, match="param_group must be a dict, but got <class 'list'>"):
        optimizer.add_param_group([torch.nn.Parameter(torch.zeros(2))])


# -- the bound of a centered step -------------------------------------------------------------------------


@given(
    updates=st.lists(st.floats(-1e3, 1e3).filter(lambda g: g == 0 or abs(g) > 1e-3), min_size=1, max_size=30),
    rho=st.floats(0.5, 0.99),
    bias_correction=st.booleans(),
)
def test_centered_step_stays_within_its_bound(updates, rho, bias_correction):
    param, lr, eps = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)), 0.1, 1e-8
    optimizer = RMSprop([param], lr=lr, rho=rho, eps=eps, centered=True, bias_correction=bias_correction)
    for t, grad in enumerate(updates, 1):
        before = param.item()
        param.grad = torch.tensor([grad], dtype=torch.float64)
        optimizer.step()
        step = abs(param.item() - before)
        bound = lr * min(math.sqrt(1 / (1 - rho) + rho**-t), abs(grad) / eps)
        # The rounding error of v - m**2 is relative to the square of the largest gradient.
        largest = max(map(abs, updates[:t]))
        if grad == 0 or abs(grad) > 1e-2 * largest:
            assert step <= bound * (1 + 1e-3) + 1e-12


def test_centered_step_reaches_its_bound():
    # For a constant gradient of 1, v - m**2 is rho**t * (1 - rho**t).
    param, lr, rho, t = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)), 0.1, 0.9, 40
    optimizer = RMSprop([param], lr=lr, rho=rho, eps=1e-12, centered=True)
    for _ in range(t):
        before = param.item()
        param.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    step = abs(param.item() - before)
    assert lr / math.sqrt(1 - rho) < step <= lr * math.sqrt(1 / (1 - rho) + rho**-t)
    assert step == pytest.approx(lr / math.sqrt(rho**t * (1 - rho**t)), rel=1e-6)


def test_methods_of_a_class_between_rmsprop_and_torch_are_called():
    def named(method):
        @functools.wraps(method)
        def wrapper(self, param_group):
            method(self, {**param_group, "name": "weights"})

        return wrapper

    class Named(torch.optim.Optimizer):
        @named
        def add_param_group(self, param_group):
            super().add_param_group(param_group)

    class Both(RMSprop, Named):
        pass

    assert Both(parameters()).param_groups[0]["name"] == "weights"
