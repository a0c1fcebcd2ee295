"""`rl_rms.RMSprop(like=...)`, compared with the optimizers of other libraries.

The tests run the optimizers of torch and Stable-Baselines3. ``golden/rmsprop.json`` has the results of TensorFlow
1, Keras, optax, timm and TorchOpt; ``golden/make.py`` writes it.
"""

import inspect
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from rl_rms import RMSprop, rho_from_half_life
from tests.naming import naming

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("rmsprop.json").read_text(encoding="utf-8"))
SHAPES = GOLDEN["shapes"]
PATHS = [{}, {"fused": False}, {"foreach": True}]
PRESETS = ["torch", "rmsprop_tf_like", "tf1", "keras", "optax"]
LIVE = {"torch": torch.optim.RMSprop, "rmsprop_tf_like": RMSpropTFLike}

# The preset of each library, and the rl_rms names of its arguments if they differ.
LIKE = {
    "tf1": {"like": "tf1"},
    "keras": {"like": "keras"},
    "optax": {"like": "optax"},
    "timm": {"like": "tf1", "lr": 0.01},
    "torchopt": {"like": "torch"},
}
NAMES = {
    "learning_rate": "lr",
    "decay": "rho",
    "alpha": "rho",
    "epsilon": "eps",
    "caution": "cautious",
    "initial_scale": "initial_second_moment",
    "decoupled_decay": "decoupled_weight_decay",
    "add_decayed_weights": "weight_decay",
    "clipvalue": "max_grad_value",
    "clip": "max_grad_value",
    "clipnorm": "max_tensor_norm",
    "global_clipnorm": "max_grad_norm",
    "clip_by_global_norm": "max_grad_norm",
}


def is_refused(case):
    return case["arguments"].get("caution") and "momentum" not in case["arguments"]


def differs_on_purpose(case):
    return case["arguments"].get("centered") and case["arguments"].get("bias_correction")


EQUAL = [case for case in GOLDEN["cases"] if not (is_refused(case) or differs_on_purpose(case))]
DIFFERENT = [case for case in GOLDEN["cases"] if differs_on_purpose(case)]


def translated(arguments):
    return {NAMES.get(name, name): value for name, value in arguments.items()}


def named(value):
    if isinstance(value, dict):
        arguments = value.get("arguments", value)
        words = [f"{name}={given}" for name, given in arguments.items()]
        return "-".join([value["library"], *words] if "library" in value else words) or "auto"
    return None


def tensors(numbers):
    """Parameters or gradients of the golden problem."""
    pieces = torch.tensor(numbers, dtype=torch.float64).split([torch.Size(shape).numel() for shape in SHAPES])
    return [piece.reshape(shape).clone() for piece, shape in zip(pieces, SHAPES, strict=True)]


def golden_parameters():
    return [torch.nn.Parameter(tensor) for tensor in tensors(GOLDEN["start"])]


def train(optimizer, gradients=GOLDEN["gradients"], lr_factors=GOLDEN["lr_factors"]):
    """Yield the parameters after every step, with a learning rate that changes."""
    group = optimizer.param_groups[0]
    lr = group["lr"]
    for numbers, factor in zip(gradients, lr_factors, strict=True):
        group["lr"] = lr * factor
        for param, grad in zip(group["params"], tensors(numbers), strict=True):
            param.grad = grad
        optimizer.step()
        yield torch.cat([param.detach().flatten() for param in group["params"]])


def assert_close(ours, theirs, tolerance=1e-13):
    torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=ours.dtype), rtol=tolerance, atol=tolerance)


# -- trajectories of the libraries ------------------------------------------------------------------------


@pytest.mark.parametrize("case", EQUAL, ids=named)
def test_preset_equals_the_optimizer_of_the_library(case):
    options = translated(case["arguments"])
    optimizer = RMSprop(golden_parameters(), **LIKE[case["library"]] | options)
    trajectory = list(train(optimizer))
    # max_grad_norm divides by norm + 1e-6 as torch does; Keras and optax divide by the norm.
    tolerance = 2e-7 if "max_grad_norm" in options else 1e-13
    for step, params in zip(GOLDEN["recorded_steps"], case["params"], strict=True):
        assert_close(trajectory[step - 1], params, tolerance)


def test_preset_options_each_change_the_result():
    seen = {}
    for case in GOLDEN["cases"]:
        seen.setdefault((case["library"], *map(tuple, case["params"])), []).append(case["arguments"])
    same = [alike for alike in seen.values() if len(alike) > 1]
    # timm ignores caution without momentum; RMSprop raises an error.
    assert same == [[{}, {"caution": True}]]
    with pytest.raises(ValueError, match=naming("cautious", "momentum")):
        RMSprop(golden_parameters(), cautious=True)


@pytest.mark.parametrize("case", DIFFERENT, ids=named)
def test_centered_with_bias_correction_differs_from_optax(case):
    """optax divides v and m each by its weight w, while rl_rms divides v - m*m by w.

    After one update, v/w - (m/w)**2 is 0 and the step of optax is lr g / sqrt(eps). (v - m*m) / w is rho g**2, so
    the step of rl_rms has the length lr / sqrt(rho), apart from eps. Nesterov momentum lengthens both steps.
    """
    arguments = case["arguments"]
    lr, rho, eps = arguments["learning_rate"], 0.9, 1e-8
    start, grad, theirs = (
        torch.tensor(numbers, dtype=torch.float64)
        for numbers in (GOLDEN["start"], GOLDEN["gradients"][0], case["params"][0])
    )
    ours = next(train(RMSprop(golden_parameters(), like="optax", **translated(arguments))))
    look_ahead = 1.9 if arguments.get("nesterov") else 1.0
    assert_close(start - ours, look_ahead * lr * grad / (rho * grad**2 + eps).sqrt())
    torch.testing.assert_close(start - theirs, look_ahead * lr * grad / eps**0.5, rtol=1e-3, atol=1e-12)


ANY = {
    "lr": st.floats(1e-4, 1),
    "alpha": st.floats(0.5, 0.999),
    "eps": st.floats(1e-8, 1),
    "weight_decay": st.just(0.0) | st.floats(1e-3, 1),
    "momentum": st.just(0.0) | st.floats(0.1, 0.99),
    "centered": st.booleans(),
}


@pytest.mark.parametrize("path", PATHS, ids=named)
@pytest.mark.parametrize("like", list(LIVE))
@given(options=st.fixed_dictionaries({}, optional=ANY), seed=st.integers(0, 2**31))
def test_preset_equals_torch_and_stable_baselines3(like, path, options, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (10, len(GOLDEN["start"]))
    magnitudes = 10.0 ** (4 * torch.rand(shape, generator=generator, dtype=torch.float64) - 2)
    gradients = (magnitudes * torch.randn(shape, generator=generator, dtype=torch.float64)).tolist()
    factors = [1.0] * 5 + [0.1] * 5
    ours = train(RMSprop(golden_parameters(), like=like, **options, **path), gradients, factors)
    theirs = train(LIVE[like](golden_parameters(), **options), gradients, factors)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other, 1e-10)


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_bias_correction_with_decoupled_decay_equals_adamw_without_momentum(path):
    shared = {"lr": 0.02, "eps": 1e-3, "weight_decay": 0.25}
    options = {"rho": 0.9, "bias_correction": True, "decoupled_weight_decay": True, **shared, **path}
    ours = train(RMSprop(golden_parameters(), **options))
    theirs = train(torch.optim.AdamW(golden_parameters(), betas=(0.0, 0.9), **shared))
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other)


# -- defaults and overrides -------------------------------------------------------------------------------


def library_defaults(library):
    if library in LIVE:
        parameters = inspect.signature(LIVE[library]).parameters.values()
        return {x.name: x.default for x in parameters if x.default not in (x.empty, None)}
    return GOLDEN["defaults"][library]


@pytest.mark.parametrize("library", [*LIVE, *LIKE])
def test_preset_defaults_equal_the_library(library):
    theirs = translated(library_defaults(library))
    preset = LIKE.get(library, {"like": library})
    needs_lr = library in {"tf1", "optax"}
    assert ("lr" in theirs) is not needs_lr
    ours = RMSprop(golden_parameters(), **preset | ({"lr": 0.1} if needs_lr else {})).defaults
    ours["rho"] = ours["alpha"]
    # Averages of parameters (Keras), locks (TensorFlow) and corrected weight decay (timm) are not part of RMSprop.
    elsewhere = {"use_ema", "ema_momentum", "use_locking", "corrected_weight_decay"}
    compared = theirs.keys() - elsewhere
    assert {"rho", "eps", "centered"} <= compared
    assert {name: ours[name] for name in compared} == {name: theirs[name] for name in compared}


@pytest.mark.parametrize(
    ("like", "conventions"),
    {
        "torch": (False, 0, False, False),
        "rmsprop_tf_like": (True, 1, False, False),
        "tf1": (True, 1, True, False),
        "keras": (True, 0, True, True),
        "optax": (True, 0, True, False),
    }.items(),
)
def test_preset_sets_the_conventions_of_the_library(like, conventions):
    defaults = RMSprop(golden_parameters(), lr=0.1, like=like).defaults
    names = ("eps_in_sqrt", "initial_second_moment", "lr_in_momentum", "decoupled_weight_decay")
    assert tuple(defaults[name] for name in names) == conventions


def test_default_preset_is_torch():
    assert RMSprop(golden_parameters()).defaults == RMSprop(golden_parameters(), like="torch").defaults


@pytest.mark.parametrize("like", PRESETS)
def test_argument_overrides_the_preset(like):
    shared = {"lr": 0.02, "alpha": 0.8, "eps": 0.0, "weight_decay": 0.25, "momentum": 0.9}
    conventions = {
        "eps_in_sqrt": False,
        "initial_second_moment": 0.0,
        "lr_in_momentum": False,
        "decoupled_weight_decay": False,
    }
    ours = train(RMSprop(golden_parameters(), like=like, **shared, **conventions))
    theirs = train(torch.optim.RMSprop(golden_parameters(), **shared))
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize("like", PRESETS)
@pytest.mark.parametrize("half_life", [{"rho": 0.5}, {"alpha": 0.5}, {"half_life": 1}, {"half_life": "1 updates"}])
def test_half_life_overrides_the_preset(like, half_life):
    assert RMSprop(golden_parameters(), lr=0.1, like=like, **half_life).rho == rho_from_half_life(1)


@pytest.mark.parametrize("like", ["tf1", "optax"])
def test_preset_without_learning_rate_names_it(like):
    with pytest.raises(ValueError, match=naming(f"like='{like}'", "lr")):
        RMSprop(golden_parameters(), like=like)


def test_unknown_preset_names_it_and_the_choices():
    with pytest.raises(
        ValueError, match=naming("like", "'torch'", "'rmsprop_tf_like'", "'tf1'", "'keras'", "'optax'", "'jax'")
    ):
        RMSprop(golden_parameters(), like="jax")
