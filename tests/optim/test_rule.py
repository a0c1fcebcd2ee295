import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from rl_rms.optim.rule import rmsprop_init, rmsprop_update
from tests.naming import naming

SHAPES = [(), (5,), (3, 4)]


def run(grads, param=None, *, initial_second_moment=0.0, **options):
    """Parameter and state after an update with each gradient."""
    param = torch.zeros_like(grads[0]) if param is None else param
    kept = {name: options[name] for name in ("momentum", "optimism", "centered") if name in options}
    state = rmsprop_init(param, initial_second_moment=initial_second_moment, **kept)
    for grad in grads:
        param, state = rmsprop_update(param, grad, state, **options)
    return param, state


def reference(optimizer_class, grads, param, **options):
    """Parameter and state of another library's optimizer."""
    param = torch.nn.Parameter(param.clone())
    optimizer = optimizer_class([param], **options)
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
    return param.detach(), optimizer.state[param]


def problem(shape, dtype=torch.float64, updates=25):
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(updates, *shape, dtype=dtype, generator=generator)
    return list(grads * 10.0 ** torch.randn(updates, *shape, generator=generator)), torch.ones(shape, dtype=dtype)


def test_two_updates_equal_hand_computed_values():
    # v = 0.5 * 16 = 8, then 0.5 * 8 + 0.5 * 64 = 36. p = -2 * 4 / sqrt(8) - 2 * 8 / sqrt(36).
    grads = [torch.tensor([4.0]), torch.tensor([8.0])]
    param, state = run(grads, lr=2.0, half_life=1, eps=0.0)
    assert state["square_avg"].item() == 36.0
    assert param.item() == pytest.approx(-8 / math.sqrt(8) - 16 / 6)
    assert state["step"].item() == 2.0
    assert state["initial_weight"] == 0.25


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("momentum", "centered", "weight_decay"), list(itertools.product([0.0, 0.9], [False, True], [0.0, 0.1]))
)
def test_update_equals_torch(shape, momentum, centered, weight_decay):
    grads, param = problem(shape)
    options = {"lr": 0.1, "eps": 1e-3, "momentum": momentum, "centered": centered, "weight_decay": weight_decay}
    theirs, their_state = reference(torch.optim.RMSprop, grads, param, alpha=0.9, **options)
    ours, our_state = run(grads, param, rho=0.9, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert our_state.keys() - {"initial_weight"} == their_state.keys()
    for name in their_state:
        torch.testing.assert_close(our_state[name], their_state[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("momentum", "centered", "weight_decay"), list(itertools.product([0.0, 0.9], [False, True], [0.0, 0.1]))
)
def test_update_equals_the_tensorflow_form(momentum, centered, weight_decay):
    grads, param = problem((3, 4))
    options = {"lr": 0.1, "eps": 1e-3, "momentum": momentum, "centered": centered, "weight_decay": weight_decay}
    theirs, _ = reference(RMSpropTFLike, grads, param, alpha=0.9, **options)
    ours, _ = run(grads, param, rho=0.9, initial_second_moment=1.0, eps_in_sqrt=True, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_momentum_and_optimism_equal_hand_computed_values():
    # g / d is 1, 1, -1. The momentum buffer is 1, then 1 - 0.5 = 0.5, then -1 - 0.25 = -1.25. The steps are lr
    # times 1, 0.5 + 2 * (0.5 - 1) and -1.25 + 2 * (-1.25 - 0.5).
    grads = [torch.tensor([g], dtype=torch.float64) for g in (3.0, 3.0, -3.0)]
    options = {"lr": 0.1, "rho": 0.9, "eps": 0.0, "bias_correction": True, "momentum": -0.5, "optimism": 2.0}
    points = [run(grads[:updates], **options)[0].item() for updates in (1, 2, 3)]
    assert points == pytest.approx([-0.1, -0.05, 0.425])
    _, state = run(grads, **options)
    assert state["momentum_buffer"].item() == state["previous_update"].item() == pytest.approx(-1.25)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_optimism_equals_a_combination_of_torch_steps(momentum):
    # At lr = 1, torch's steps are u. With an optimism of 1, a step is lr * (2 * u - previous u).
    grads, param = problem((3, 4))
    options = {"eps": 1e-3, "momentum": momentum}
    zero = torch.zeros_like(param)
    ends = [zero] + [
        reference(torch.optim.RMSprop, grads[: i + 1], zero, lr=1.0, alpha=0.9, **options)[0]
        for i in range(len(grads))
    ]
    us = [before - after for before, after in itertools.pairwise(ends)]
    expected = param - 0.1 * us[0] - 0.1 * sum(2 * u - before for before, u in itertools.pairwise(us))
    ours, state = run(grads, param, lr=0.1, rho=0.9, optimism=1.0, **options)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state["previous_update"], us[-1], rtol=1e-9, atol=1e-9)


def test_optimism_with_lr_in_momentum_uses_the_rate_of_each_step():
    # Without optimism, the steps are 0.1 and 0.2. With an optimism of 1, the second step is 0.2 + (0.2 - 0.1).
    param = torch.zeros(1, dtype=torch.float64)
    state = rmsprop_init(param, optimism=1.0)
    for lr in (0.1, 0.2):
        options = {"rho": 0.9, "eps": 0.0, "bias_correction": True, "optimism": 1.0, "lr_in_momentum": True}
        param, state = rmsprop_update(param, torch.full_like(param, 5.0), state, lr=lr, **options)
    assert param.item() == pytest.approx(-0.1 - 0.3)


def test_update_changes_nothing_in_place():
    param, grad = torch.ones(3), torch.full((3,), 2.0)
    options = {"lr": 0.1, "rho": 0.9, "momentum": 0.9, "optimism": 1.0, "centered": True}
    _, state = run([grad], param, **options)
    before = {name: torch.as_tensor(value).clone() for name, value in state.items()}
    rmsprop_update(param, grad, state, **options)
    assert torch.equal(param, torch.ones(3))
    assert torch.equal(grad, torch.full((3,), 2.0))
    assert all(torch.equal(torch.as_tensor(state[name]), before[name]) for name in before)


@given(
    st.lists(st.floats(-1e6, 1e6).filter(lambda g: g == 0 or abs(g) > 1e-6), min_size=1, max_size=30),
    st.floats(0.0, 0.999),
    st.booleans(),
)
def test_step_stays_within_its_bound(grads, rho, eps_in_sqrt):
    param, state = torch.zeros(1, dtype=torch.float64), rmsprop_init(torch.zeros(1, dtype=torch.float64))
    for g in grads:
        grad = torch.tensor([g], dtype=torch.float64)
        new, state = rmsprop_update(param, grad, state, lr=0.1, rho=rho, eps_in_sqrt=eps_in_sqrt)
        assert abs(new - param).item() <= 0.1 / math.sqrt(1 - rho) * (1 + 1e-9)
        param = new


def test_step_reaches_its_bound():
    param, _ = run([torch.tensor([1e9], dtype=torch.float64)], lr=0.1, rho=0.99)
    assert abs(param.item()) == pytest.approx(0.1 / math.sqrt(0.01))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5), st.floats(0.1, 1e5), st.booleans())
def test_bias_corrected_first_step_is_the_learning_rate(magnitudes, half_life, downwards):
    grad = torch.tensor(magnitudes, dtype=torch.float64) * (-1 if downwards else 1)
    param, _ = run([grad], lr=0.1, half_life=half_life, eps=0.0, bias_correction=True)
    torch.testing.assert_close(param, -0.1 * torch.sign(grad), rtol=1e-9, atol=0)


def test_bias_corrected_second_moment_of_a_constant_gradient_is_its_square():
    # Bias correction is exact at every update, also if rho changes.
    param, state = torch.zeros(1, dtype=torch.float64), rmsprop_init(torch.zeros(1, dtype=torch.float64))
    for rho in (0.9, 0.99, 0.5, 0.999):
        new, state = rmsprop_update(
            param,
            torch.full((1,), 7.0, dtype=torch.float64),
            state,
            lr=0.1,
            rho=rho,
            eps=0.0,
            bias_correction=True,
        )
        assert (param - new).item() == pytest.approx(0.1, rel=1e-12)
        param = new
    assert state["initial_weight"] == pytest.approx(0.9 * 0.99 * 0.5 * 0.999)


def test_bias_corrected_centered_first_step():
    # v - m*m = rho (1 - rho) g*g, and divided by 1 - rho it is rho g*g.
    param, _ = run([torch.tensor([3.0])], lr=0.1, rho=0.64, eps=0.0, bias_correction=True, centered=True)
    assert param.item() == pytest.approx(-0.1 / 0.8, rel=1e-6)


def test_second_moment_halves_in_a_half_life():
    grads = [torch.ones(2, dtype=torch.float64)] * 3
    _, state = run(grads, lr=0.1, half_life=20)
    before = state["square_avg"]
    for _ in range(20):
        _, state = rmsprop_update(torch.zeros(2), torch.zeros(2), state, lr=0.1, half_life=20)
    torch.testing.assert_close(state["square_avg"], before / 2)


def test_long_half_life_in_single_precision_is_exact():
    # In float32, the rounding of 2 ** (-1 / h) would change this half-life by 3 %.
    half_life = 1e6
    _, state = run([torch.ones(1)], lr=0.1, half_life=half_life)
    assert state["square_avg"].item() == pytest.approx(math.log(2) / half_life, rel=1e-6)
    _, from_tensor = run([torch.ones(1)], lr=0.1, half_life=torch.tensor(half_life), bias_correction=True)
    assert from_tensor["square_avg"].item() == pytest.approx(math.log(2) / half_life, rel=1e-6)
    assert 1 - from_tensor["initial_weight"].item() == pytest.approx(math.log(2) / half_life, rel=1e-6)


@pytest.mark.parametrize("with_gradients", [False, True])
def test_decoupled_weight_decay_is_independent_of_gradients(with_gradients):
    grads = [torch.full((2,), 100.0 * with_gradients, dtype=torch.float64)] * 10
    options = {"lr": 0.1, "rho": 0.9, "eps": 1e-8}
    start = torch.ones(2, dtype=torch.float64)
    plain, decayed = start, start
    state = rmsprop_init(start)
    for grad in grads:
        step = rmsprop_update(plain, grad, state, **options)[0] - plain
        decayed_next, new_state = rmsprop_update(
            decayed, grad, state, weight_decay=0.5, decoupled_weight_decay=True, **options
        )
        torch.testing.assert_close(decayed_next, decayed * (1 - 0.1 * 0.5) + step, rtol=1e-12, atol=1e-12)
        plain, decayed, state = plain + step, decayed_next, new_state
    if not with_gradients:
        torch.testing.assert_close(decayed, start * 0.95**10, rtol=1e-12, atol=0)


def test_centered_step_of_constant_gradients_is_finite():
    # v - m*m is only a rounding error. If it is negative, torch's root is nan.
    grads = [torch.linspace(0.1, 3, 1000)] * 60
    theirs, _ = reference(torch.optim.RMSprop, grads, torch.zeros(1000), alpha=0.5, centered=True)
    assert theirs.isnan().any()
    ours, _ = run(grads, lr=0.01, rho=0.5, centered=True)
    assert ours.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_single_precision(dtype):
    # In bfloat16, v would stop at 1, where (1 - rho) g*g is below half a unit in the last place.
    grads = [torch.full((2,), 1.9609375, dtype=dtype)] * 8000
    param, state = run(grads, lr=1e-3, rho=0.999)
    assert param.dtype == dtype
    assert state["square_avg"].dtype == torch.float32
    assert state["square_avg"][0].item() == pytest.approx(1.9609375**2, rel=1e-3)


@pytest.mark.parametrize("initial_second_moment", [0.0, 1.0])
def test_complex_parameters_equal_pairs_of_reals(initial_second_moment):
    grads, param = problem((4,), torch.complex128)
    options = {
        "lr": 0.1,
        "rho": 0.9,
        "momentum": 0.5,
        "optimism": 1.0,
        "centered": True,
        "weight_decay": 0.1,
        "initial_second_moment": initial_second_moment,
    }
    as_complex, state = run(grads, param, **options)
    as_reals, _ = run([torch.view_as_real(g) for g in grads], torch.view_as_real(param), **options)
    torch.testing.assert_close(torch.view_as_real(as_complex), as_reals, rtol=1e-12, atol=1e-12)
    averages = ("square_avg", "grad_avg", "momentum_buffer", "previous_update")
    assert all(state[name].dtype == torch.complex128 for name in averages)


HYPERPARAMETERS = {
    "lr": 0.1,
    "half_life": 3.0,
    "eps": 0.01,
    "weight_decay": 0.2,
    "momentum": 0.7,
    "optimism": 0.8,
}


@pytest.mark.parametrize(
    ("bias_correction", "eps_in_sqrt", "decoupled"),
    list(itertools.product([False, True], [False, True], [False, True])),
)
def test_gradients_of_hyperparameters_equal_finite_differences(bias_correction, eps_in_sqrt, decoupled):
    grads, param = problem((3,), updates=4)

    def after(param, *values):
        return run(
            grads,
            param,
            bias_correction=bias_correction,
            eps_in_sqrt=eps_in_sqrt,
            decoupled_weight_decay=decoupled,
            **dict(zip(HYPERPARAMETERS, values, strict=True)),
        )[0]

    hyperparameters = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in HYPERPARAMETERS.values()]
    assert torch.autograd.gradcheck(after, (param.requires_grad_(), *hyperparameters), atol=1e-4)


def test_gradient_of_a_half_life_equals_the_gradient_of_rho():
    grads, _ = problem((3,), updates=4)
    half_life = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    rho = torch.tensor(2 ** (-1 / 3), dtype=torch.float64, requires_grad=True)
    for hyperparameter, name in ((half_life, "half_life"), (rho, "rho")):
        run(grads, lr=0.1, bias_correction=True, **{name: hyperparameter})[0].sum().backward()
    # d rho / d h = rho ln 2 / h**2
    assert half_life.grad.item() == pytest.approx(rho.grad.item() * rho.item() * math.log(2) / 9, rel=1e-9)


def test_gradients_with_unused_coordinates_are_finite():
    half_life = torch.tensor(3.0, requires_grad=True)
    used = [torch.tensor([1.0]), torch.tensor([2.0])]
    with_unused = [torch.cat([torch.zeros(1), grad]) for grad in used]
    (alone, beside) = (
        torch.autograd.grad(run(grads, lr=0.1, half_life=half_life)[0].sum(), half_life)[0]
        for grads in (used, with_unused)
    )
    assert alone != 0
    assert torch.equal(alone, beside)


def test_gradients_at_a_zero_tensor_are_finite():
    weight_decay = torch.tensor(0.0, requires_grad=True)
    param, _ = run(
        [torch.ones(1)], torch.ones(1), lr=0.1, rho=0.9, weight_decay=weight_decay, decoupled_weight_decay=True
    )
    param.backward()
    assert weight_decay.grad.item() == pytest.approx(-0.1)


def test_double_precision_hyperparameters_keep_the_precision_of_a_scalar_parameter():
    options = {name: torch.tensor(value, dtype=torch.float64) for name, value in HYPERPARAMETERS.items()}
    param, state = run([torch.tensor(2.0)] * 3, bias_correction=True, centered=True, **options)
    assert param.dtype == state["square_avg"].dtype == state["momentum_buffer"].dtype == torch.float32


HYPERGRADIENTS = json.loads((Path(__file__).parent / "golden" / "hypergradients.json").read_text())
# The rl_rms options and hyperparameters by their names in the other libraries.
THEIR_OPTIONS = {
    "bias_correction": "bias_correction",
    "centered": "centered",
    "eps_in_sqrt": "eps_in_sqrt",
    "initial_scale": "initial_second_moment",
    "momentum": "momentum",
    "nesterov": "nesterov",
}


def logistic_loss(params, problem):
    logits = problem["inputs"] @ params["weight"] + params["bias"]
    return torch.nn.functional.softplus(-problem["labels"] * logits).mean()


def trained(params, problem, steps, *, initial_second_moment=0.0, **options):
    """Named parameters after steps with their own gradients, which are part of the graph."""
    kept = {name: options[name] for name in ("momentum", "optimism", "centered") if name in options}
    state = rmsprop_init(params, initial_second_moment=initial_second_moment, **kept)
    for _ in range(steps):
        grads = torch.autograd.grad(logistic_loss(params, problem), list(params.values()), create_graph=True)
        params, state = rmsprop_update(params, dict(zip(params, grads, strict=True)), state, **options)
    return params


def logistic_problem():
    problem = {name: torch.tensor(x, dtype=torch.float64) for name, x in HYPERGRADIENTS["problem"].items()}
    return problem, {name: problem[name].clone().requires_grad_() for name in ("weight", "bias")}


@pytest.mark.parametrize(
    "case", HYPERGRADIENTS["cases"], ids=lambda case: " ".join([case["library"], *case["options"]])
)
def test_gradients_of_hyperparameters_equal_other_libraries(case):
    problem, params = logistic_problem()
    values = {"momentum": 0.6} if "momentum" in case["gradients"] else {}
    values = {**HYPERGRADIENTS["hyperparameters"], **values}
    values = {name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in values.items()}
    options = {THEIR_OPTIONS[name]: value for name, value in case["options"].items()}
    if case["library"] == "optax":
        options = {"eps_in_sqrt": True, "lr_in_momentum": True, **options}
    ours = {"rho" if name == "decay" else name: value for name, value in values.items()}
    loss = logistic_loss(trained(params, problem, HYPERGRADIENTS["steps"], **ours, **options), problem)
    assert loss.item() == pytest.approx(case["loss"], rel=1e-12)
    found = torch.autograd.grad(loss, [values[name] for name in case["gradients"]])
    for name, grad in zip(case["gradients"], found, strict=True):
        assert grad.item() == pytest.approx(case["gradients"][name], rel=1e-9), name


def test_gradients_through_a_hundred_unrolled_steps_equal_finite_differences():
    problem, params = logistic_problem()

    def last_loss(lr, log_half_life, log_eps, momentum, weight_decay):
        after = trained(
            params,
            problem,
            100,
            lr=lr,
            half_life=log_half_life.exp(),
            eps=log_eps.exp(),
            momentum=momentum,
            weight_decay=weight_decay,
            bias_correction=True,
        )
        return logistic_loss(after, problem)

    values = [0.01, math.log(20.0), math.log(1e-3), 0.3, 0.01]
    hyperparameters = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in values]
    assert torch.autograd.gradcheck(last_loss, hyperparameters, eps=1e-5, atol=1e-7, rtol=1e-4)


def test_update_of_named_parameters_updates_each_separately():
    grads, param = problem((3, 4), updates=3)
    params, state = {"a": param, "b": 2.0 * param}, rmsprop_init({"a": param, "b": param}, momentum=0.9)
    options = {"lr": 0.1, "rho": 0.9, "momentum": 0.9, "max_update_rms": 0.5}
    for grad in grads:
        params, state = rmsprop_update(params, {"b": 0.1 * grad, "a": grad}, state, **options)
    alone = {"a": run(grads, param, **options), "b": run([0.1 * g for g in grads], 2.0 * param, **options)}
    for name, (after, its_state) in alone.items():
        assert torch.equal(params[name], after)
        assert torch.equal(state[name]["square_avg"], its_state["square_avg"])


@pytest.mark.parametrize("missing", ["grad", "state"])
def test_update_with_different_names_raises(missing):
    param = {"weight": torch.ones(2), "bias": torch.ones(())}
    others = {"grad": dict(param), "state": rmsprop_init(param)}
    del others[missing]["bias"]
    with pytest.raises(ValueError, match=naming(missing, "['bias', 'weight']", "['weight']")):
        rmsprop_update(param, others["grad"], others["state"], lr=0.1, rho=0.9)


@pytest.mark.parametrize("given_decay", [{}, {"rho": 0.9, "half_life": 69}])
def test_update_without_exactly_one_decay_raises(given_decay):
    with pytest.raises(ValueError, match=naming("rho", "half_life")):
        run([torch.ones(1)], lr=0.1, **given_decay)


def test_update_with_incomplete_state_raises():
    for option, entry in (("momentum", "momentum_buffer"), ("optimism", "previous_update")):
        with pytest.raises(KeyError, match=entry):
            rmsprop_update(
                torch.ones(1), torch.ones(1), rmsprop_init(torch.ones(1)), lr=0.1, rho=0.9, **{option: 0.9}
            )
