"""Tests like torch's generic optimizer tests, for every kernel of `rl_rms.RMSprop`.

Most tests have a scenario, which is run with torch's RMSprop and with `rl_rms.RMSprop` and must return the same
values. If torch lacks an option, or keeps its state in half precision, the reference is the rule on single
tensors.
"""

import copy
import functools
import gc
import io
import itertools
import pickle
import threading
import weakref

import pytest
import torch
import torch.multiprocessing
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from rl_rms import RMSprop
from rl_rms.optim.rule import rmsprop_init, rmsprop_update

TRAINING_PATHS = {"auto": {"fused": None}, "loop": {"fused": False}, "foreach": {"foreach": True}}
# Autograd forbids a differentiable step on leaves that require gradients, so only tests that set gradients use
# ``differentiable``.
ALL_PATHS = {**TRAINING_PATHS, "differentiable": {"differentiable": True}}

over_all_paths = pytest.mark.parametrize("path", ALL_PATHS.values(), ids=ALL_PATHS)
over_paths = pytest.mark.parametrize("path", TRAINING_PATHS.values(), ids=TRAINING_PATHS)

# The configurations of torch's generic tests.
CONFIGURATIONS = [
    {},
    {"lr": 1e-3},
    {"lr": torch.tensor(1e-3)},
    {"weight_decay": 0.1},
    {"maximize": True},
    {"weight_decay": 0.1, "centered": True},
    {"maximize": True, "weight_decay": 0.1},
    {"weight_decay": 0.1, "centered": True, "momentum": 0.1},
    {"weight_decay": 0.1, "centered": True, "momentum": 0.1, "maximize": True},
]
over_configurations = pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)


def play(scenario, optimizer_class, **options):
    torch.manual_seed(0)
    return scenario(functools.partial(optimizer_class, **{"lr": 0.02, "alpha": 0.9, "eps": 1e-4, **options}))


def assert_as_torch(scenario, path, tolerance=1e-5, **options):
    """Assert that a scenario returns the same values with torch's RMSprop and with `rl_rms.RMSprop`."""
    # Schedulers change a learning rate that is a tensor in place, so each optimizer gets its own copy.
    ours = play(scenario, RMSprop, **{**path, **copy.deepcopy(options)})
    theirs = play(scenario, torch.optim.RMSprop, **copy.deepcopy(options))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def leaf(*values, dtype=torch.float32):
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def network(dtype=torch.float64):
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)


def loss_of(model, scale=1.0):
    dtype = next(model.parameters()).dtype
    return scale * (model(torch.randn(4, 3).to(dtype)) - 1).square().mean()


def backward(model, optimizer, scale=1.0, set_to_none=True):
    optimizer.zero_grad(set_to_none=set_to_none)
    loss_of(model, scale).backward()


def train(model, optimizer, updates=3, **how):
    for _ in range(updates):
        backward(model, optimizer, **how)
        optimizer.step()


def set_gradients(*params, value=None):
    for param in params:
        param.grad = torch.randn_like(param) if value is None else torch.full_like(param, value)


def weights(model):
    return [param.detach().clone() for param in model.parameters()]


def states(optimizer):
    """The entries of the state that torch's RMSprop has, in the order of the parameters."""
    names = ("step", "square_avg", "momentum_buffer", "grad_avg")
    return [
        {name: state[name].clone() for name in names if name in state}
        for _, state in sorted(optimizer.state_dict()["state"].items())
    ]


# -- equality of the kernels -------------------------------------------------------------------------------


def tensors_of_all_kinds(*dtypes):
    """A matrix, a vector, a scalar, an empty tensor and two non-contiguous tensors of each precision."""
    kinds = []
    for dtype in dtypes:
        kinds += [torch.randn(shape, dtype=dtype) for shape in ((3, 4), (5,), (), (0,))]
        kinds += [torch.randn(4, 3, dtype=dtype).t(), torch.randn(4, 6, dtype=dtype)[:, ::2]]
    return kinds


@over_all_paths
@over_configurations
def test_step_of_mixed_precisions_shapes_and_strides_equals_torch(path, options):
    def scenario(make):
        params = tensors_of_all_kinds(torch.float32, torch.float64, torch.complex64)
        optimizer = make(params)
        for update in range(6):
            set_gradients(*params)
            params[update].grad = None
            optimizer.step()
        return params, states(optimizer)

    assert_as_torch(scenario, path, 1e-4, **options)


OWN_OPTIONS = [
    {},
    {"bias_correction": True},
    {"bias_correction": True, "centered": True, "momentum": 0.5},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
    {"eps_in_sqrt": True, "initial_second_moment": 1.0},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": -0.5, "optimism": 1.0, "bias_correction": True},
    {"momentum": 0.9, "nesterov": True, "centered": True, "maximize": True},
]


@over_all_paths
@pytest.mark.parametrize(
    ("lr", "options"),
    [
        *((0.02, options) for options in OWN_OPTIONS),
        (torch.tensor(0.02), OWN_OPTIONS[0]),
        (torch.tensor([0.02], dtype=torch.float64), OWN_OPTIONS[0]),
    ],
    ids=str,
)
def test_step_of_mixed_tensors_equals_the_rule_on_each(path, lr, options):
    torch.manual_seed(0)
    params = tensors_of_all_kinds(torch.bfloat16, torch.float32, torch.float64, torch.complex64)
    references = [param.clone() for param in params]
    start = {"momentum", "optimism", "centered", "initial_second_moment"}
    kept = [
        rmsprop_init(param, **{name: value for name, value in options.items() if name in start})
        for param in params
    ]
    optimizer = RMSprop(params, lr=lr, rho=0.9, eps=1e-4, **options, **path)
    rule = {name: value for name, value in options.items() if name not in ("maximize", "initial_second_moment")}
    sign = -1 if options.get("maximize") else 1
    for _ in range(4):
        set_gradients(*params)
        for index, param in enumerate(params):
            references[index], kept[index] = rmsprop_update(
                references[index], sign * param.grad, kept[index], lr=0.02, rho=0.9, eps=1e-4, **rule
            )
        optimizer.step()
    for param, reference, state in zip(params, references, kept, strict=True):
        torch.testing.assert_close(
            param, reference, rtol=1e-2 if param.dtype is torch.bfloat16 else 1e-4, atol=1e-5
        )
        own = optimizer.state[param]
        assert own.keys() == state.keys()
        torch.testing.assert_close(own, state, rtol=1e-4, atol=1e-5)


@over_all_paths
@pytest.mark.parametrize("options", OWN_OPTIONS, ids=str)
def test_step_of_tiny_gradients_has_the_state_of_the_rule(path, options):
    options = {**options, "initial_second_moment": 0.0}
    param = torch.zeros(4)
    optimizer = RMSprop([param], lr=0.02, rho=0.9, eps=1e-4, **options, **path)
    expected = 0.0
    for size in (1e-8, 3e-7, 1e-6, 1e-5):
        param.grad = torch.full_like(param, size)
        optimizer.step()
        expected = 0.9 * expected + 0.1 * size**2
        v = optimizer.state[param]["square_avg"]
        torch.testing.assert_close(v, torch.full_like(v, expected), rtol=1e-4, atol=0)


@over_all_paths
@over_configurations
def test_complex_parameters_equal_pairs_of_reals(path, options):
    torch.manual_seed(0)
    starts = [torch.randn(shape, dtype=torch.complex64) for shape in ((2, 3), (4,), ())]
    complex_params = [start.clone() for start in starts]
    real_params = [torch.view_as_real(start).clone() for start in starts]
    ours = RMSprop(complex_params, **{"lr": 0.02, "eps": 1e-4, **options}, **path)
    theirs = torch.optim.RMSprop(real_params, **{"lr": 0.02, "eps": 1e-4, **options})
    for _ in range(3):
        set_gradients(*complex_params)
        for own, other in zip(complex_params, real_params, strict=True):
            other.grad = torch.view_as_real(own.grad).clone()
        ours.step()
        theirs.step()
    for own, other in zip(complex_params, real_params, strict=True):
        torch.testing.assert_close(torch.view_as_real(own), other)
        for name, value in theirs.state[other].items():
            mine = ours.state[own][name]
            torch.testing.assert_close(torch.view_as_real(mine) if mine.is_complex() else mine, value)


GROUPS = [
    {"lr": [0.1, 0.001]},
    {"weight_decay": [0.0, 0.5]},
    {"alpha": [0.5, 0.99], "eps": [1e-3, 1.0]},
    {"momentum": [0.9, 0.0], "centered": [False, True]},
    {"maximize": [True, False], "lr": [torch.tensor(0.1), 0.1]},
]


@over_paths
@pytest.mark.parametrize("differing", GROUPS, ids=str)
def test_groups_with_their_own_options_equal_torch(path, differing):
    def scenario(make):
        model = network()
        layers = (model[0], model[2])
        optimizer = make(
            [
                {"params": layer.parameters(), **{name: values[index] for name, values in differing.items()}}
                for index, layer in enumerate(layers)
            ]
        )
        train(model, optimizer)
        return weights(model), states(optimizer)

    assert_as_torch(scenario, path)


@over_all_paths
def test_step_zero_gradients_change_nothing_and_missing_gradients_have_no_state(path):
    params = [torch.ones(2, 3), torch.tensor(2.0)]
    optimizer = RMSprop(params, lr=0.1, **path)
    optimizer.step()
    assert not optimizer.state
    set_gradients(*params, value=0.0)
    optimizer.step()
    assert torch.equal(params[0], torch.ones(2, 3))
    assert params[1].item() == 2.0
    assert [state["step"].item() for state in optimizer.state.values()] == [1, 1]


@over_all_paths
@over_configurations
def test_state_after_a_step_has_the_layout_of_torch(path, options):
    params = [torch.ones(2, 3), torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.complex64)]
    ours, theirs = RMSprop(params, **options, **path), torch.optim.RMSprop(params, **options)
    set_gradients(*params)
    ours.step()
    theirs.step()
    assert ours.state.keys() == theirs.state.keys()
    for param in params:
        own, other = ours.state[param], theirs.state[param]
        assert own.keys() - {"initial_weight"} == other.keys()
        for name, value in other.items():
            assert (own[name].shape, own[name].dtype, own[name].device) == (value.shape, value.dtype, value.device)


@over_paths
@over_configurations
def test_step_keeps_the_gradients(path, options):
    model = network(torch.float32)
    optimizer = RMSprop(model.parameters(), **options, **path)
    for _ in range(2):
        backward(model, optimizer)
        before = [param.grad.clone() for param in model.parameters()]
        optimizer.step()
        assert all(torch.equal(param.grad, grad) for param, grad in zip(model.parameters(), before, strict=True))


@over_paths
def test_step_under_another_default_dtype_equals_torch(path, request):
    def scenario(make):
        model = nn.Linear(3, 2, dtype=torch.float32)
        optimizer = make(model.parameters(), momentum=0.5)
        train(model, optimizer)
        # torch's step count has the default precision. The step count of rl_rms is always float32.
        return weights(model), [state["square_avg"] for state in states(optimizer)]

    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.float64)
    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("set_to_none", [False, True])
def test_step_of_accumulated_gradients_equals_torch(path, set_to_none):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        for _ in range(3):
            backward(model, optimizer, set_to_none=set_to_none)
            for _ in range(3):
                loss_of(model).backward()
            optimizer.step()
        return weights(model), [param.grad for param in model.parameters()]

    assert_as_torch(scenario, path)


@over_paths
def test_step_does_not_overwrite_gradients_kept_by_the_user(path):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        kept = []
        for _ in range(3):
            train(model, optimizer, updates=1)
            kept.append([param.grad for param in model.parameters()])
        return kept

    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("set_to_none", [False, True])
def test_zero_grad_of_missing_gradients_and_graphs_equals_torch(path, set_to_none):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        train(model, optimizer)
        # backward() would warn of the reference cycle between the parameters and gradients with a graph.
        grads = torch.autograd.grad(loss_of(model), list(model.parameters()), create_graph=True)
        for param, grad in zip(model.parameters(), grads, strict=True):
            param.grad = grad.clone()
        model[0].bias.grad = None
        optimizer.zero_grad(set_to_none=set_to_none)
        grads = [param.grad for param in model.parameters()]
        assert not any(grad.requires_grad for grad in grads if grad is not None)
        return [0 if grad is None else grad.sum() + 1 for grad in grads]

    assert_as_torch(scenario, path)


# -- parameter groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [TRAINING_PATHS["auto"], TRAINING_PATHS["loop"]], ids=["auto", "loop"])
def test_parameter_twice_in_a_group_warns_and_is_updated_twice(path):
    def scenario(make):
        param, other = leaf(1.0, 2.0), leaf(3.0)
        with pytest.warns(UserWarning, match="a parameter group with duplicate parameters"):
            optimizer = make([param, other, param])
        for value in (1.0, -2.0):
            set_gradients(param, other, value=value)
            optimizer.step()
        return param, other, optimizer.state[param]["step"], optimizer.state[other]["step"]

    # The foreach path is left out, because torch decides the order of the two updates in a foreach kernel.
    assert_as_torch(scenario, path)


def wrong_parameters():
    one, two = leaf(1.0), leaf(2.0)
    return {
        "a tensor": one,
        "nothing": [],
        "a number": [1.0],
        "a set": [{"params": {one, two}}],
        "a result of a computation": [one * 2],
        "one in two groups": [{"params": [one]}, {"params": [one]}],
        "some without names": [("weight", one), two],
        "groups without names": [{"params": [one]}, {"params": [("weight", two)]}],
        "groups with names": [{"params": [("weight", one)]}, {"params": [two]}],
        "no params": [{"lr": 0.1}],
    }


def error_of(action):
    with pytest.raises(Exception) as raised:  # noqa: PT011 (the type is what is compared)
        action()
    return raised.type, str(raised.value)


@pytest.mark.parametrize("kind", wrong_parameters())
def test_wrong_parameters_raise_the_error_of_torch(kind):
    ours, theirs = (
        error_of(lambda c=c: c(wrong_parameters()[kind], lr=0.1)) for c in (RMSprop, torch.optim.RMSprop)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    "group",
    [[leaf(2.0)], leaf(2.0), {"params": [1.0]}, {"params": {leaf(2.0)}}, {"params": [("named", leaf(2.0))]}, {}],
    ids=["list", "tensor", "number", "set", "named", "empty"],
)
def test_add_param_group_of_a_wrong_group_raises_and_the_optimizer_continues(group):
    def refused(optimizer_class):
        param = leaf(1.0)
        optimizer = optimizer_class([param], lr=0.1)
        error = error_of(lambda: optimizer.add_param_group(group))
        set_gradients(param, value=1.0)
        optimizer.step()
        assert len(optimizer.param_groups) == 1
        assert param.item() == pytest.approx(0.0, abs=1e-5)
        return error

    assert refused(RMSprop) == refused(torch.optim.RMSprop)


@over_paths
@pytest.mark.parametrize("option", ["lr", "weight_decay", "momentum"])
def test_add_param_group_takes_changed_defaults(path, option):
    def scenario(make):
        early, late = leaf(1.0, 2.0), leaf(3.0, 4.0)
        optimizer = make([early])
        optimizer.defaults[option] = 0.3
        set_gradients(early)
        optimizer.step()
        optimizer.add_param_group({"params": late})
        for _ in range(3):
            set_gradients(early, late)
            optimizer.step()
        return early, late, [group[option] for group in optimizer.param_groups]

    assert_as_torch(scenario, path)


def replace_all(optimizer, new):
    optimizer.param_groups[0]["params"] = [new[0], new[1]]


def replace_one(optimizer, new):
    optimizer.param_groups[0]["params"][1] = new[0]


def move_one(optimizer, new):
    optimizer.param_groups[1]["params"].append(optimizer.param_groups[0]["params"].pop())


def exchange(optimizer, new):
    first, second = (group["params"] for group in optimizer.param_groups)
    first[0], second[0] = second[0], first[0]


def append(optimizer, new):
    optimizer.param_groups[0]["params"].append(new[0])


def remove(optimizer, new):
    del optimizer.param_groups[0]["params"][0]


def remove_group(optimizer, new):
    del optimizer.param_groups[0]


def reverse_groups(optimizer, new):
    optimizer.param_groups.reverse()


def replace_groups(optimizer, new):
    optimizer.param_groups.clear()
    optimizer.add_param_group({"params": new, "lr": 0.5})


CHANGES_OF_GROUPS = [
    replace_all,
    replace_one,
    move_one,
    exchange,
    append,
    remove,
    remove_group,
    reverse_groups,
    replace_groups,
]


@over_paths
@pytest.mark.parametrize("change", CHANGES_OF_GROUPS)
def test_step_after_rearranged_groups_equals_torch(path, change):
    def scenario(make):
        params, new = [leaf(float(i), -1.0) for i in range(4)], [leaf(5.0, 6.0), leaf(7.0, 8.0)]
        optimizer = make([{"params": params[:2], "lr": 0.1}, {"params": params[2:], "lr": 0.2, "alpha": 0.5}])
        set_gradients(*params, value=1.0)
        optimizer.step()
        set_gradients(*new, value=1.0)
        change(optimizer, new)
        optimizer.step()
        optimizer.step()
        return params, new, [len(group["params"]) for group in optimizer.param_groups]

    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("change", CHANGES_OF_GROUPS)
def test_zero_grad_and_clipping_use_the_current_groups(path, change):
    def scenario(make):
        params, new = [leaf(float(i), -1.0) for i in range(4)], [leaf(5.0, 6.0), leaf(7.0, 8.0)]
        own = {"max_grad_norm": 1e9} if make.func is RMSprop else {}  # torch has no clipping inside the step
        optimizer = make([{"params": params[:2]}, {"params": params[2:]}], **own)
        set_gradients(*params, value=1.0)
        optimizer.step()
        set_gradients(*new, value=3.0)
        change(optimizer, new)
        present = [param for group in optimizer.param_groups for param in group["params"]]
        optimizer.zero_grad(set_to_none=False)
        zeroed = [param.grad.clone() for param in (*params, *new)]
        for index, param in enumerate((*params, *new)):
            set_gradients(param, value=2.0**index)
        norm = nn.utils.get_total_norm([param.grad for param in present])
        optimizer.step()
        if own:
            norm = torch.tensor(optimizer.diagnostics()["gradient_norm"])
        return norm, zeroed

    assert_as_torch(scenario, path)


# -- memory that other code moves or shares ----------------------------------------------------------------


MOVES = {
    "param.data": lambda param, state: setattr(param, "data", param.data * 2),
    "param.set_": lambda param, state: param.detach().set_(param.data * 2),
    "param.copy_": lambda param, state: param.data.copy_(param.data * 2),
    "grad": lambda param, state: setattr(param, "grad", param.grad * -2),
    "grad.data": lambda param, state: setattr(param.grad, "data", param.grad * -2),
    "grad.set_": lambda param, state: param.grad.set_(param.grad * -2),
    "grad.mul_": lambda param, state: param.grad.mul_(-2),
    "grad.share_memory_": lambda param, state: param.grad.share_memory_().mul_(-2),
    "state": lambda param, state: state.update(square_avg=state["square_avg"] * 4),
    "state.data": lambda param, state: setattr(state["square_avg"], "data", state["square_avg"] * 4),
    "state.set_": lambda param, state: state["square_avg"].set_(state["square_avg"] * 4),
    "state.mul_": lambda param, state: state["square_avg"].mul_(4),
    "state.share_memory_": lambda param, state: state["square_avg"].share_memory_().mul_(4),
    "averages.data": lambda param, state: [
        setattr(value, "data", value * 4)
        for name, value in state.items()
        if name in ("square_avg", "momentum_buffer")
    ],
    "step.fill_": lambda param, state: state["step"].fill_(10),
    "step": lambda param, state: state.update(step=torch.tensor(10.0)),
}


@over_paths
@pytest.mark.parametrize("move", MOVES)
def test_step_after_changed_parameters_gradients_or_state_equals_torch(path, move):
    def scenario(make):
        params = [leaf(1.0, 2.0), leaf(3.0)]
        optimizer = make(params, momentum=0.5)
        set_gradients(*params, value=1.0)
        optimizer.step()
        with torch.no_grad():
            MOVES[move](params[0], optimizer.state[params[0]])
        optimizer.step()
        optimizer.step()
        return params, states(optimizer), [param.grad for param in params]

    assert_as_torch(scenario, path)


@over_paths
def test_step_keeps_tied_weights(path):
    def scenario(make):
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        # The weight is one parameter under two names. The biases are two parameters with one storage.
        second.weight = first.weight
        second.bias.data = first.bias.data
        model = nn.Sequential(first, nn.Tanh(), second)
        optimizer = make(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
        return weights(model), first.bias.data_ptr() == second.bias.data_ptr(), first.weight is second.weight

    assert_as_torch(scenario, path)


@over_paths
def test_step_keeps_storage_shared_across_groups(path):
    def scenario(make):
        first = leaf(1.0, 2.0)
        second = nn.Parameter(first.data)
        optimizer = make([{"params": [first]}, {"params": [second], "lr": 0.1}])
        for value in (1.0, 2.0):
            set_gradients(first, value=value)
            set_gradients(second, value=-value)
            optimizer.step()
        return first, second, first.data_ptr() == second.data_ptr()

    assert_as_torch(scenario, path)


@over_paths
def test_views_of_parameters_see_later_steps(path):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        train(model, optimizer)
        views = [param.detach().view(-1) for param in model.parameters()] + list(model.state_dict().values())
        kept = [view.clone() for view in views]
        train(model, optimizer)
        assert not any(torch.equal(*pair) for pair in zip(views, kept, strict=True))
        return views, kept

    assert_as_torch(scenario, path)


@over_paths
def test_deepcopy_of_the_model_keeps_its_weights(path):
    def scenario(make):
        model, target = network(), network()
        optimizer = make(model.parameters())
        seen = []
        for _ in range(3):
            train(model, optimizer)
            saved = {name: value.clone() for name, value in model.state_dict().items()}
            target.load_state_dict(model.state_dict())
            copied = copy.deepcopy(model)
            train(model, optimizer)
            seen += [saved, weights(target), weights(copied)]
            model.load_state_dict(saved)
        return seen, weights(model)

    assert_as_torch(scenario, path)


@over_paths
def test_vector_to_parameters_between_steps_equals_torch(path):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        for _ in range(3):
            train(model, optimizer, updates=2)
            vector = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
            nn.utils.vector_to_parameters(0.9 * vector, model.parameters())
        return weights(model)

    assert_as_torch(scenario, path)


@over_paths
def test_two_optimizers_with_shared_parameters_equal_torch(path):
    def scenario(make):
        trunk, heads = nn.Linear(3, 4).double(), [nn.Linear(4, 1).double() for _ in range(2)]
        optimizers = [make([*trunk.parameters(), *head.parameters()]) for head in heads]
        for _ in range(12):
            for head, optimizer in zip(heads, optimizers, strict=True):
                train(nn.Sequential(trunk, nn.Tanh(), head), optimizer, updates=1)
        return weights(trunk), [weights(head) for head in heads], [states(optimizer) for optimizer in optimizers]

    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("when", ["before the first step", "between steps"])
def test_step_keeps_the_model_in_shared_memory(path, when):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        if when == "between steps":
            train(model, optimizer)
        model.share_memory()
        pointers = [param.data_ptr() for param in model.parameters()]
        train(model, optimizer)
        assert [param.data_ptr() for param in model.parameters()] == pointers
        return weights(model), [param.is_shared() for param in model.parameters()]

    assert_as_torch(scenario, path)


def train_in_another_process(model):
    torch.set_num_threads(1)
    optimizer = RMSprop(model.parameters(), lr=0.1)
    set_gradients(*model.parameters(), value=1.0)
    optimizer.step()


def test_step_in_another_process_trains_a_shared_model():
    model = network().share_memory()
    before = weights(model)
    process = torch.multiprocessing.get_context("spawn").Process(target=train_in_another_process, args=(model,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    for param, start in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(param.detach(), start - 1.0, rtol=1e-5, atol=1e-5)


# -- state dicts -------------------------------------------------------------------------------------------


def pickled_and_back(optimizer):
    return pickle.loads(pickle.dumps(optimizer))


def through_a_file(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


MAKERS = {"torch": (torch.optim.RMSprop, {})} | {name: (RMSprop, path) for name, path in TRAINING_PATHS.items()}


@pytest.mark.parametrize("carry", [through_a_file, copy.deepcopy], ids=["file", "deepcopy"])
@pytest.mark.parametrize(("source", "destination"), list(itertools.product(MAKERS, MAKERS)))
def test_load_state_dict_between_all_kernels_continues(source, destination, carry):
    def scenario(makers):
        torch.manual_seed(0)
        model = network()
        first, second = (
            optimizer_class(model.parameters(), lr=0.02, momentum=0.5, centered=True, **options)
            for optimizer_class, options in makers
        )
        train(model, first)
        # The groups of the second optimizer select its kernel.
        second.load_state_dict({**carry(first.state_dict()), "param_groups": second.state_dict()["param_groups"]})
        train(model, second)
        return weights(model), states(second)

    expected = scenario([MAKERS["torch"], MAKERS["torch"]])
    torch.testing.assert_close(scenario([MAKERS[source], MAKERS[destination]]), expected)


@pytest.mark.parametrize("path", ["loop", "foreach"])
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled_and_back])
def test_deepcopy_of_a_fused_optimizer_may_use_another_kernel(path, copied):
    model = network()
    original = RMSprop(model.parameters(), momentum=0.5)
    train(model, original)
    other = copied(original)
    other.param_groups[0].update(TRAINING_PATHS[path])
    for optimizer in (original, other):
        set_gradients(*optimizer.param_groups[0]["params"], value=1.0)
        optimizer.step()
    torch.testing.assert_close(states(other), states(original))
    torch.testing.assert_close(other.param_groups[0]["params"], original.param_groups[0]["params"])


@over_paths
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled_and_back])
@pytest.mark.parametrize("updates", [0, 2])
def test_deepcopy_has_the_attributes_and_hooks_of_torch(path, copied, updates):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        train(model, optimizer, updates)
        calls = []
        optimizer.register_step_post_hook(lambda *_: calls.append("step"))
        optimizer.register_state_dict_pre_hook(lambda *_: calls.append("state_dict"))
        optimizer.register_load_state_dict_post_hook(lambda *_: calls.append("load_state_dict"))
        other = copied(optimizer)
        public = {name for name in vars(optimizer) if not name.startswith("_")}
        assert public <= set(vars(other))
        for name in public:
            if isinstance(getattr(optimizer, name), (int, float, str, type(None))):
                assert getattr(other, name) == getattr(optimizer, name)
        assert other.defaults == optimizer.defaults
        set_gradients(*other.param_groups[0]["params"])
        other.step()
        other.load_state_dict(other.state_dict())
        return len(calls), states(other)

    # torch's copies and pickles of an optimizer have no hooks.
    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_state_dict_hooks_are_called(path, dtype):
    def scenario(make):
        model = network(dtype)
        optimizer = make(model.parameters(), lr=1.0)
        train(model, optimizer)
        calls = []

        def halve_lr(optimizer):
            calls.append(1)
            optimizer.param_groups[0]["lr"] *= 0.5

        def replace(optimizer, state_dict):
            calls.append(3)
            return {**state_dict, "extra": len(calls)}

        def change(optimizer, state_dict):
            calls.append(2)
            state_dict["param_groups"][0]["lr"] += 1

        handles = [
            optimizer.register_state_dict_pre_hook(lambda _: calls.append(4)),
            optimizer.register_state_dict_pre_hook(halve_lr, prepend=True),
            optimizer.register_state_dict_post_hook(replace),
            optimizer.register_state_dict_post_hook(change, prepend=True),
        ]
        first = optimizer.state_dict()
        for handle in handles:
            handle.remove()
        second = optimizer.state_dict()
        return calls, [[saved["param_groups"][0]["lr"], saved.get("extra", 0)] for saved in (first, second)]

    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_load_state_dict_hooks_are_called(path, dtype):
    def scenario(make):
        model = network(dtype)
        optimizer = make(model.parameters())
        train(model, optimizer)
        saved = copy.deepcopy(optimizer.state_dict())
        calls = []

        def replace(optimizer, state_dict):
            calls.append(2)
            replaced = copy.deepcopy(state_dict)
            replaced["param_groups"][0]["lr"] *= 0.5
            return replaced

        def change(optimizer, state_dict):
            calls.append(1)
            state_dict["param_groups"] = copy.deepcopy(state_dict["param_groups"])
            state_dict["param_groups"][0]["lr"] += 1

        def overwrite(optimizer):
            calls.append(4)
            for state in optimizer.state.values():
                state["square_avg"].fill_(7.0)

        def look(optimizer):
            calls.append(3)
            calls.append(int(optimizer.param_groups[0]["lr"] * 100))

        handles = [
            optimizer.register_load_state_dict_pre_hook(replace),
            optimizer.register_load_state_dict_pre_hook(change, prepend=True),
            optimizer.register_load_state_dict_post_hook(overwrite),
            optimizer.register_load_state_dict_post_hook(look, prepend=True),
        ]
        optimizer.load_state_dict(saved)
        seen = [state["square_avg"].float() for state in states(optimizer)]
        for handle in handles:
            handle.remove()
        optimizer.load_state_dict(saved)
        return calls, seen, saved["param_groups"][0]["lr"], optimizer.param_groups[0]["lr"]

    assert_as_torch(scenario, path)


@over_paths
def test_load_state_dict_of_partial_or_foreign_state_equals_torch(path):
    def scenario(make):
        params = [leaf(1.0, 2.0), leaf(3.0)]
        optimizer = make(params)
        set_gradients(*params, value=1.0)
        optimizer.step()
        optimizer.state[params[0]]["mine"] = torch.ones(3)
        optimizer.state["of nobody"] = torch.ones(2)
        saved = through_a_file(optimizer.state_dict())
        del saved["state"][1]
        optimizer.load_state_dict(saved)
        optimizer.step()
        steps = [optimizer.state[param]["step"] for param in params]
        return params, steps, optimizer.state[params[0]]["mine"], optimizer.state["of nobody"]

    assert_as_torch(scenario, path)


@over_paths
def test_step_after_an_invalid_state_dict_continues(path):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        train(model, optimizer)
        wrong = copy.deepcopy(optimizer.state_dict())
        wrong["param_groups"][0]["params"].pop()
        with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
            optimizer.load_state_dict(wrong)
        train(model, optimizer)
        return weights(model), states(optimizer)

    assert_as_torch(scenario, path)


@over_paths
def test_load_state_dict_does_not_change_its_source(path):
    model, other = network(), network()
    source, destination = RMSprop(model.parameters(), **path), RMSprop(other.parameters(), **path)
    train(model, source)
    saved = through_a_file(source.state_dict())
    kept, groups = copy.deepcopy(saved["state"]), copy.deepcopy(saved["param_groups"])
    destination.load_state_dict(copy.deepcopy(saved))
    train(other, destination)
    torch.testing.assert_close(saved["state"], kept)
    assert saved["param_groups"] == groups
    torch.testing.assert_close(list(source.state_dict()["state"].values()), list(kept.values()))


@over_paths
def test_load_state_dict_without_names_keeps_the_names(path):
    model = network()
    optimizer = RMSprop(model.named_parameters(), **path)
    train(model, optimizer)
    saved = optimizer.state_dict()
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert saved["param_groups"][0]["param_names"] == names
    renamed = copy.deepcopy(saved)
    renamed["param_groups"][0]["param_names"] = list("abcd")
    optimizer.load_state_dict(renamed)
    assert optimizer.param_groups[0]["param_names"] == list("abcd")
    del renamed["param_groups"][0]["param_names"]
    optimizer.load_state_dict(renamed)
    assert optimizer.param_groups[0]["param_names"] == list("abcd")


# -- hooks around a step -----------------------------------------------------------------------------------


@over_paths
def test_step_hooks_run_once_in_the_order_of_torch(path):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        calls = []
        handles = [
            optimizer.register_step_pre_hook(lambda *_: calls.append(2)),
            register_optimizer_step_pre_hook(lambda *_: calls.append(1)),
            register_optimizer_step_post_hook(lambda *_: calls.append(4)),
            optimizer.register_step_post_hook(lambda *_: calls.append(3)),
        ]
        try:
            train(model, optimizer, updates=2)
        finally:
            for handle in handles:
                handle.remove()
        train(model, optimizer, updates=1)
        assert calls == [1, 2, 3, 4, 1, 2, 3, 4]
        return calls

    assert_as_torch(scenario, path)


@over_paths
def test_step_hooks_get_the_arguments_of_step(path):
    def scenario(make):
        optimizer = make([leaf(1.0)])
        arguments = []

        def note(seen_optimizer, args, kwargs):
            assert seen_optimizer is args[0] is optimizer
            arguments.append([len(args), len(kwargs), int("closure" in kwargs)])

        handles = [register_optimizer_step_pre_hook(note), register_optimizer_step_post_hook(note)]
        optimizer.register_step_pre_hook(note)
        optimizer.register_step_post_hook(note)
        try:
            optimizer.step()
            optimizer.step(lambda: 1.0)
            optimizer.step(closure=lambda: 1.0)
        finally:
            for handle in handles:
                handle.remove()
        return arguments

    assert_as_torch(scenario, path)


@over_paths
def test_step_pre_hook_may_replace_the_closure(path):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())

        def closure():
            backward(model, optimizer)
            return loss_of(model).detach()

        optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: ((*args, closure), kwargs))
        losses = [optimizer.step() for _ in range(3)]
        return losses, weights(model)

    assert_as_torch(scenario, path)


@over_paths
def test_step_hooks_may_change_gradients_parameters_and_groups(path):
    def scenario(make):
        model, late = network(), leaf(1.0, dtype=torch.float64)
        optimizer = make(model.parameters())

        def before(optimizer, args, kwargs):
            for param in model.parameters():
                param.grad = param.grad.clamp(-0.1, 0.1)
            if len(optimizer.param_groups) == 1:
                set_gradients(late, value=1.0)
                optimizer.add_param_group({"params": [late]})

        def after(optimizer, args, kwargs):
            for param in model.parameters():
                param.data.clamp_(-0.3, 0.3)

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
        train(model, optimizer)
        return weights(model), late

    assert_as_torch(scenario, path)


@over_paths
def test_step_pre_hook_returns_another_type_raises(path):
    optimizer = RMSprop([leaf(1.0)], **path)
    optimizer.register_step_pre_hook(lambda *_: 1)
    with pytest.raises(RuntimeError, match="must return None or a tuple of \\(new_args, new_kwargs\\), but got 1"):
        optimizer.step()


# -- schedulers --------------------------------------------------------------------------------------------


SCHEDULERS = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=12),
    "one cycle without momentum": lambda o: lr_scheduler.OneCycleLR(
        o, max_lr=0.1, total_steps=12, cycle_momentum=False
    ),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.7)], milestones=[3]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, 0.4, 0.8, 4), lr_scheduler.StepLR(o, 2, 0.5)]
    ),
}


# SequentialLR uses an argument that older torch versions warn of.
@pytest.mark.filterwarnings("ignore:The epoch parameter in .scheduler.step:UserWarning")
@over_paths
@pytest.mark.parametrize("lr", [0.05, torch.tensor(0.05)], ids=["number", "tensor"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_learning_rate_schedulers_equal_torch(path, lr, scheduler):
    def scenario(make):
        model = network()
        optimizer = make(
            [{"params": model[0].parameters()}, {"params": model[2].parameters(), "momentum": 0.5}], momentum=0.9
        )
        schedule = SCHEDULERS[scheduler](optimizer)
        seen = []
        for update in range(10):
            train(model, optimizer, updates=1)
            schedule.step(*([1.0 + update] if scheduler == "plateau" else []))
            seen.append([(float(group["lr"]), group["momentum"]) for group in optimizer.param_groups])
            if update == 5:
                saved = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
                optimizer = make([{"params": layer.parameters()} for layer in (model[0], model[2])], momentum=0.9)
                schedule = SCHEDULERS[scheduler](optimizer)
                schedule.load_state_dict(saved[1])
                optimizer.load_state_dict(saved[0])
        assert len({lrs for (lrs, _), _ in seen}) > 1
        return seen, weights(model)

    assert_as_torch(scenario, path, lr=lr)


@over_paths
def test_learning_rate_tensor_changed_in_place_is_used(path):
    def scenario(make):
        model, lr = network(), torch.tensor(0.01)
        optimizer = make(model.parameters(), lr=lr)
        for value in (0.1, 0.0, 0.3):
            lr.fill_(value)
            train(model, optimizer, updates=1)
        assert optimizer.param_groups[0]["lr"] is lr
        return weights(model)

    assert_as_torch(scenario, path)


# -- within a training loop --------------------------------------------------------------------------------


@over_paths
@pytest.mark.parametrize("caller", [torch.enable_grad, torch.no_grad])
def test_step_calls_the_closure_once_with_gradients_enabled(path, caller):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        losses = []

        def closure():
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            losses.append(loss_of(model))
            losses[-1].backward()
            return losses[-1]

        with caller():
            enabled = torch.is_grad_enabled()
            assert all(optimizer.step(closure) is losses[-1] for _ in range(3))
            assert optimizer.step() is None
            assert torch.is_grad_enabled() == enabled
        assert len(losses) == 3
        return torch.stack(losses), weights(model)

    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("first", [True, False], ids=["from the first step", "later"])
def test_step_in_inference_mode_equals_torch(path, first):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        if not first:
            train(model, optimizer)
        backward(model, optimizer)
        with torch.inference_mode():
            optimizer.step()
        backward(model, optimizer)
        return weights(model), [param.grad for param in model.parameters()]

    assert_as_torch(scenario, path)


# torch's compiled step calls a function that torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
def test_compiled_step_between_eager_steps_equals_torch():
    torch.compiler.reset()

    def scenario(make):
        model = network()
        optimizer = make(model.parameters(), lr=torch.tensor(0.02))
        train(model, optimizer)
        compiled = torch.compile(optimizer.step, backend="eager")
        for _ in range(2):
            backward(model, optimizer)
            compiled()
        train(model, optimizer)
        return weights(model), states(optimizer)

    assert_as_torch(scenario, TRAINING_PATHS["auto"])


@over_paths
def test_step_with_a_gradient_scaler_equals_torch(path):
    def scenario(make):
        model = network(torch.float32)
        optimizer = make(model.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        scales = []
        for update in range(5):
            optimizer.zero_grad(set_to_none=update % 2 == 0)
            scaler.scale(loss_of(model, float("inf") if update == 2 else 1.0)).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        assert scales == [64.0, 64.0, 32.0, 32.0, 32.0]
        return weights(model), states(optimizer)

    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("clip", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_])
@pytest.mark.parametrize("set_to_none", [False, True])
def test_clip_grad_norm_before_the_step_equals_torch(path, clip, set_to_none):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        for _ in range(3):
            backward(model, optimizer, 10.0, set_to_none)
            clip(model.parameters(), 0.1)
            optimizer.step()
        return weights(model), [param.grad for param in model.parameters()]

    assert_as_torch(scenario, path)


@over_paths
def test_step_of_functional_gradients_equals_torch(path):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())

        def loss(params, x):
            return torch.func.functional_call(model, params, x).square().mean()

        for _ in range(3):
            params = dict(model.named_parameters())
            x = torch.randn(4, 3, dtype=torch.float64)
            for name, grad in torch.func.grad(loss)(params, x).items():
                params[name].grad = grad
            optimizer.step()
            per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(dict(model.named_parameters()), x)
            for name, grads in per_sample.items():
                params[name].grad = grads.mean(0)
            optimizer.step()
        return weights(model)

    assert_as_torch(scenario, path)


@over_paths
def test_profiler_shows_the_names_of_torch(path):
    model = network()
    optimizer = RMSprop(model.parameters(), **path)
    train(model, optimizer, set_to_none=False)
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    names = [event.name for event in profile.function_events if event.name.startswith("Optimizer")]
    assert names == ["Optimizer.step#RMSprop.step", "Optimizer.zero_grad#RMSprop.zero_grad"]


@over_paths
@pytest.mark.parametrize("average", [None, torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)], ids=["swa", "ema"])
def test_averaged_model_equals_torch(path, average):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters())
        averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average)
        for _ in range(4):
            train(model, optimizer, updates=1)
            averaged.update_parameters(model)
        before = weights(averaged.module)
        for param, mean in zip(model.parameters(), averaged.module.parameters(), strict=True):
            param.data, mean.data = mean.data, param.data
        train(model, optimizer)
        return before, weights(model), weights(averaged.module)

    assert_as_torch(scenario, path)


@over_paths
@pytest.mark.parametrize("set_to_none", [False, True])
def test_step_after_freezing_and_unfreezing_equals_torch(path, set_to_none):
    def scenario(make):
        model = network()
        optimizer = make(model.parameters(), weight_decay=0.1, momentum=0.5)
        for trained in (True, False, True):
            model[0].requires_grad_(trained)
            train(model, optimizer, set_to_none=set_to_none)
        return weights(model), states(optimizer)

    assert_as_torch(scenario, path)


@over_paths
def test_step_in_a_backward_hook_equals_torch(path):
    def scenario(make):
        model = network()
        optimizers = {param: make([param]) for param in model.parameters()}

        def update(param):
            optimizers[param].step()
            optimizers[param].zero_grad()

        for param in optimizers:
            param.register_post_accumulate_grad_hook(update)
        for _ in range(3):
            loss_of(model).backward()
        return weights(model)

    assert_as_torch(scenario, path)


def weight_normed():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))


def convolutional():
    convolution = nn.Conv2d(3, 4, 3, padding=1).to(memory_format=torch.channels_last)
    return nn.Sequential(nn.Unflatten(1, (3, 1, 1)), convolution, nn.Flatten(), nn.Linear(4, 2))


class Recurrent(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


@over_paths
@pytest.mark.parametrize("build", [weight_normed, convolutional, lambda: Recurrent(3, 4)])
def test_step_of_other_networks_equals_torch(path, build):
    def scenario(make):
        model = build()
        optimizer = make(model.parameters(), momentum=0.5)
        train(model, optimizer, updates=4)
        return weights(model)

    assert_as_torch(scenario, path, 1e-4)


# -- the optimizer as an object ----------------------------------------------------------------------------


@over_paths
def test_optimizer_without_references_is_freed(path):
    model = network()
    optimizer = RMSprop(model.parameters(), momentum=0.5, **path)
    train(model, optimizer)
    optimizer.zero_grad(set_to_none=False)
    first = next(model.parameters())
    kept = [optimizer, optimizer.state[first]["square_avg"], optimizer.state[first]["momentum_buffer"]]
    gone = [weakref.ref(thing) for thing in kept]
    del kept
    gc.disable()  # without the collector, objects in reference cycles stay alive
    try:
        del optimizer
        assert [reference() for reference in gone] == [None] * len(gone)
    finally:
        gc.enable()
    assert first.isfinite().all()


@pytest.mark.slow
@over_paths
def test_long_run_does_not_grow_in_memory(path):
    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    model = network()
    optimizer = RMSprop(model.parameters(), **path)
    counts = []
    for _ in range(4):
        train(model, optimizer, updates=2)
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        model.load_state_dict(copy.deepcopy(model.state_dict()))
        for param in model.parameters():
            param.data = param.data.clone()
        train(model, optimizer, updates=2, set_to_none=False)
        counts.append(tensors())
    assert counts[1] == counts[-1]


@over_paths
def test_replaced_parameters_are_freed(path):
    first, second = leaf(1.0, 2.0), leaf(3.0, 4.0)
    optimizer = RMSprop([first], **path)
    set_gradients(first, second)
    optimizer.step()
    optimizer.param_groups[0]["params"] = [second]
    del optimizer.state[first]
    optimizer.step()
    gone = weakref.ref(first)
    del first
    assert gone() is None


@over_paths
def test_repr_has_every_option_of_torch(path):
    params = [leaf(1.0)]
    shown = {"foreach": path.get("foreach")}
    ours, theirs = (
        c([{"params": params}, {"params": [leaf(2.0)], "lr": 0.5}], lr=0.25, alpha=0.75, **options)
        for c, options in ((RMSprop, path), (torch.optim.RMSprop, shown))
    )
    lines = repr(theirs).splitlines()
    assert len(lines) > 20
    assert [line for line in repr(ours).splitlines() if line in lines] == lines


@over_paths
def test_two_optimizers_in_two_threads_equal_torch(path):
    def run(seed, results):
        generator = torch.Generator().manual_seed(seed)
        params = [torch.zeros(20, 20), torch.zeros(7)]
        optimizer = RMSprop(params, lr=0.01, **path)
        for _ in range(50):
            for param in params:
                param.grad = torch.randn(param.shape, generator=generator)
            optimizer.step()
        results[seed] = params

    apart, together = {}, {}
    for seed in range(2):
        run(seed, apart)
    threads = [threading.Thread(target=run, args=(seed, together)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(2):
        assert all(torch.equal(*pair) for pair in zip(together[seed], apart[seed], strict=True))
