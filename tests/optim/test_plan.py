"""Planned steps equal the plain kernel's, also after parameters, gradients, states or options change."""

import copy
import gc
import io
import os
import pickle
import struct
import weakref
from collections import defaultdict
from multiprocessing.shared_memory import SharedMemory

import pytest
import torch
import torch.multiprocessing
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from rl_rms import RMSprop, rho_from_half_life
from rl_rms.optim.kernels.batch import UniformBatch
from rl_rms.optim.kernels.fused import FusedKernel
from rl_rms.optim.plan import Plan, collect_batches
from tests.naming import naming


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)


def train(model, optimizer, updates=5, seed=0, set_to_none=True):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(updates):
        optimizer.zero_grad(set_to_none=set_to_none)
        model(torch.randn(4, 3, generator=generator).to(dtype)).square().sum().backward()
        optimizer.step()


def pair(**options):
    """The same network twice, one trained in uniform batches and one by the plain kernel."""
    models = network(), network()
    optimizers = [
        RMSprop(model.parameters(), **{"lr": 0.01, "fused": fused, **options})
        for model, fused in zip(models, (None, False), strict=True)
    ]
    return models, optimizers


def assert_same(models, optimizers, tolerance=1e-10):
    for own, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(own, other, rtol=tolerance, atol=tolerance)
    states = [[state for _, state in sorted(optimizer.state_dict()["state"].items())] for optimizer in optimizers]
    assert [set(state) for state in states[0]] == [set(state) for state in states[1]]
    for own, other in zip(*states, strict=True):
        for name in own:
            torch.testing.assert_close(own[name], other[name], rtol=tolerance, atol=tolerance)


def is_uniform(optimizer):
    """True if a uniform batch counts the updates of all parameters together."""
    return len({state["step"].untyped_storage().data_ptr() for state in optimizer.state.values()}) == 1


OPTIONS = [
    {},
    {"bias_correction": True},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
    {"maximize": True, "weight_decay": 0.1},
    {"maximize": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    {"momentum": 0.5, "centered": True, "bias_correction": True},
    {"momentum": 0.5, "bias_correction": True, "weight_decay": 0.1, "maximize": True},
    {"momentum": 0.5, "nesterov": True, "lr_in_momentum": True, "eps_in_sqrt": True},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    {"momentum": 0.5, "lr_in_momentum": True, "lr": 0.0},
    {"momentum": -0.5, "bias_correction": True},
    {"momentum": -0.5, "nesterov": True, "lr_in_momentum": True},
    {"optimism": 1.0, "bias_correction": True, "weight_decay": 0.1},
    {"optimism": 0.5, "momentum": 0.5, "nesterov": True, "lr_in_momentum": True, "maximize": True},
    {"centered": True, "eps_in_sqrt": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    {"eps_in_sqrt": True, "initial_second_moment": 1.0},
    {"rho": 0.0},
    {"rho": 0.0, "bias_correction": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("set_to_none", [False, True])
@pytest.mark.parametrize("gather_at_most", [0, 1 << 18])
def test_step_of_few_or_many_gradients_equals_the_rule(options, set_to_none, gather_at_most, monkeypatch):
    monkeypatch.setattr("rl_rms.optim.kernels.batch.GATHER_AT_MOST", gather_at_most)
    models, optimizers = pair(**options)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, set_to_none=set_to_none)
    assert is_uniform(optimizers[0])
    assert not is_uniform(optimizers[1])
    assert_same(models, optimizers)


def test_step_with_a_varying_half_life_is_bias_corrected_exactly():
    models, optimizers = pair(bias_correction=True, half_life="100 steps")
    for model, optimizer in zip(models, optimizers, strict=True):
        for steps in (30, 50, 1, 400):
            optimizer.steps_per_update = steps
            train(model, optimizer, updates=2, seed=steps)
    assert_same(models, optimizers)


# In float32, these rho have rounding errors of almost half a unit in the last place, in either direction.
@pytest.mark.parametrize("half_life", [26_950, 32_990])
@pytest.mark.parametrize("options", [{}, {"centered": True}, {"momentum": 0.5, "eps_in_sqrt": True}], ids=str)
def test_step_long_half_life_in_float32_has_the_exact_decay(half_life, options):
    param = nn.Parameter(torch.zeros(4))
    optimizer = RMSprop([param], lr=0.0, half_life=half_life, fused=True, **options)
    generator = torch.Generator().manual_seed(0)
    expected, rho = torch.zeros(4, dtype=torch.float64), rho_from_half_life(half_life)
    for _ in range(2_000):
        param.grad = torch.randn(4, generator=generator)
        optimizer.step()
        expected = rho * expected + (1.0 - rho) * param.grad.double() ** 2
    v = optimizer.state[param]["square_avg"].double()
    torch.testing.assert_close(v, expected, rtol=8e-6, atol=0.0)


def test_step_keeps_the_parameter_objects():
    (model, _), (optimizer, _) = pair()
    before = list(model.parameters())
    train(model, optimizer)
    assert all(own is other for own, other in zip(before, model.parameters(), strict=True))
    assert all(param.is_leaf and param.requires_grad for param in before)


def test_save_of_a_submodule_has_only_its_weights():
    (model, _), (optimizer, _) = pair()
    whole, part = nn.ModuleList([model, nn.Linear(100, 100).double()]), model[2]
    RMSprop(whole.parameters(), fused=True)
    optimizer = RMSprop(whole.parameters(), fused=True)
    (model(torch.ones(1, 3).double()).sum() + whole[1](torch.ones(100).double()).sum()).backward()
    optimizer.step()
    saved = io.BytesIO()
    torch.save(part.state_dict(), saved)
    assert saved.tell() < 5_000
    copied = copy.deepcopy(part)
    assert copied.weight.untyped_storage().nbytes() == part.weight.nbytes
    assert copied.weight.data_ptr() != part.weight.data_ptr()


def test_backward_of_a_graph_before_the_step_raises():
    (model, _), (optimizer, _) = pair()
    train(model, optimizer)
    loss = model(torch.ones(1, 3).double()).square().sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_zero_grad_zeroes_in_place_or_sets_to_none():
    (model, _), (optimizer, _) = pair()
    train(model, optimizer)
    old = [param.grad for param in model.parameters()]
    assert any(grad.abs().max() > 0 for grad in old)
    optimizer.zero_grad(set_to_none=False)
    assert all(grad.abs().max() == 0 for grad in old)
    before = [param.grad for param in model.parameters()]
    train(model, optimizer, set_to_none=False)
    assert any(grad.abs().max() > 0 for grad in before)
    optimizer.zero_grad(set_to_none=False)
    assert all(param.grad is grad for param, grad in zip(model.parameters(), before, strict=True))
    assert all(grad.abs().max() == 0 for grad in before)
    mine = torch.ones_like(before[0])
    next(model.parameters()).grad = mine
    optimizer.zero_grad(set_to_none=False)
    assert mine.abs().max() == 0
    optimizer.zero_grad()
    assert all(param.grad is None for param in model.parameters())


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_zero_grad_after_an_update_or_a_skipped_update_frees_the_gradients(fused, value):
    params = [parameter(2), parameter(3)]
    optimizer = RMSprop(params, on_nonfinite="skip", fused=fused)
    for _ in range(2):
        for param in params:
            param.grad = torch.full_like(param, value)
        optimizer.step()
        grads = [weakref.ref(param.grad) for param in params]
        optimizer.zero_grad()
        assert not any(grad() is not None for grad in grads)


def test_step_after_moved_parameters_updates_them():
    models, optimizers = pair()
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer)
        for param in model.parameters():
            param.data = param.data.clone()
        train(model, optimizer)
    assert is_uniform(optimizers[0])
    assert_same(models, optimizers)


def test_step_after_a_change_of_precision_equals_the_rule():
    models = network(torch.float32), network(torch.float32)
    optimizers = [RMSprop(model.parameters(), lr=0.01, fused=fused) for model, fused in zip(models, (True, False))]  # noqa: B905
    for model, optimizer in zip(models, optimizers, strict=True):
        model.double()
        train(model, optimizer)
    assert is_uniform(optimizers[0])
    assert_same(models, optimizers)


def test_step_after_replaced_or_removed_gradients_equals_the_rule():
    models, optimizers = pair()
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer)
        first, *others = model.parameters()
        for updates in range(3):
            for param in others:
                param.grad = torch.full_like(param, 0.1 + updates)
            first.grad = None
            optimizer.step()
        train(model, optimizer)
    assert_same(models, optimizers)
    steps = [state["step"].item() for state in optimizers[0].state_dict()["state"].values()]
    assert steps == [10, 13, 13, 13]


def test_step_with_alternating_gradients_equals_the_rule():
    models, optimizers = pair(bias_correction=True)
    for model, optimizer in zip(models, optimizers, strict=True):
        for turn in range(30):
            optimizer.zero_grad()
            for param in list(model.parameters())[turn % 2 :: 2]:
                param.grad = torch.full_like(param, float(turn + 1))
            optimizer.step()
    assert_same(models, optimizers)


@pytest.mark.parametrize("saved_after", [0, 1, 2, 3, 7, 11])
@pytest.mark.parametrize("way", ["state", "copy", "pickle"])
def test_load_state_dict_with_alternating_gradients_is_bit_identical(saved_after, way):
    def step(model, optimizer, turn):
        for i, param in enumerate(model.parameters()):
            seed = torch.Generator().manual_seed(10 * turn + i)
            moves = (turn >> i) % 2
            param.grad = torch.randn(param.shape, generator=seed, dtype=param.dtype) if moves else None
        optimizer.step()

    options = {"lr": 0.1, "bias_correction": True, "max_grad_norm": 0.01}
    model = network(torch.float32)
    optimizer = RMSprop(model.parameters(), **options)
    for turn in range(saved_after):
        step(model, optimizer, turn)
    if way == "state":
        again = copy.deepcopy(model)
        other = RMSprop(again.parameters(), **options)
        other.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
        saved_again = copy.deepcopy(other.state_dict()["param_groups"])
        assert saved_again == optimizer.state_dict()["param_groups"]
    else:
        through = copy.deepcopy if way == "copy" else lambda whole: pickle.loads(pickle.dumps(whole))
        again, other = through((model, optimizer))
    for turn in range(saved_after, 24):
        step(model, optimizer, turn)
        step(again, other, turn)
    assert_same((model, again), (optimizer, other), tolerance=0.0)


@pytest.mark.parametrize("make", [lambda grad: grad.t().contiguous().t(), lambda grad: grad.expand_as(grad)])
@pytest.mark.parametrize("gather_at_most", [0, 1 << 18])
def test_step_with_gradients_of_other_strides_equals_the_rule(make, gather_at_most, monkeypatch):
    monkeypatch.setattr("rl_rms.optim.kernels.batch.GATHER_AT_MOST", gather_at_most)
    models, optimizers = pair()
    for model, optimizer in zip(models, optimizers, strict=True):
        for seed in range(3):
            for param in model.parameters():
                grad = torch.randn(param.shape, dtype=param.dtype, generator=torch.Generator().manual_seed(seed))
                param.grad = make(grad) if grad.dim() == 2 else grad
            optimizer.step()
    assert_same(models, optimizers)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda whole: pickle.loads(pickle.dumps(whole))])
def test_deepcopy_is_independent_of_the_original(again):
    models, optimizers = pair()
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer)
    copied_model, copied = again((models[0], optimizers[0]))
    train(copied_model, copied, updates=3, seed=9)
    assert_same(models, optimizers)
    train(models[1], optimizers[1], updates=3, seed=9)
    assert_same((copied_model, models[1]), (copied, optimizers[1]))


def test_load_state_dict_makes_a_batch_again():
    models, optimizers = pair(bias_correction=True)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer)
        saved = io.BytesIO()
        torch.save(optimizer.state_dict(), saved)
        train(model, optimizer, seed=5)
        saved.seek(0)
        optimizer.load_state_dict(torch.load(saved, weights_only=True))
        train(model, optimizer, seed=6)
    assert is_uniform(optimizers[0])
    assert_same(models, optimizers)


def test_step_after_cleared_state_starts_again():
    models, optimizers = pair(bias_correction=True)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer)
        optimizer.state.clear()
        train(model, optimizer)
        first = next(model.parameters())
        optimizer.state[first] = {}
        train(model, optimizer)
    assert_same(models, optimizers)


def test_step_with_frozen_late_and_shared_parameters_equals_the_rule():
    models, optimizers = pair()
    for model, optimizer in zip(models, optimizers, strict=True):
        model[0].weight.requires_grad_(False)
        train(model, optimizer)
        model[0].weight.requires_grad_(True)
        train(model, optimizer)
        late = nn.Parameter(torch.ones(2, dtype=torch.float64))
        optimizer.add_param_group({"params": [late], "lr": 0.1, "half_life": 5})
        late.grad = torch.ones_like(late)
        train(model, optimizer)
        assert "square_avg" not in optimizer.state[late]
        late.grad = torch.ones_like(late)
        optimizer.step()
        assert late[0] != 1.0
    assert_same(models, optimizers)


def test_uniform_batches_take_contiguous_float32_and_float64_on_the_cpu():
    whole = torch.arange(6.0)
    part, alone, half = (nn.Parameter(data) for data in (whole[:3], torch.ones(3), torch.ones(3).half()))
    across = nn.Parameter(torch.ones(2, 3).t())
    params = [part, alone, half, across]
    optimizer = RMSprop(params, lr=0.5)
    for param in params:
        param.grad = torch.ones_like(param)
    _, batches = collect_batches(None, optimizer.param_groups, optimizer.state)
    assert [(batch.is_uniform, batch.params) for _, batch in batches] == [(True, params[:2]), (False, params[2:])]
    optimizer.step()
    # In every kernel, the first step is lr / sqrt(1 - 0.99) = 5.
    for param, before in zip(params, (torch.arange(3.0), 1.0, 1.0, 1.0), strict=True):
        torch.testing.assert_close(
            param.detach().float(), before - torch.full(param.shape, 5.0), rtol=1e-3, atol=1e-3
        )
    with pytest.raises(ValueError, match=naming("fused=True", "(3,)", "fused=None")):
        RMSprop(params, fused=True).step()


def test_step_after_changed_options_equals_the_rule():
    models, optimizers = pair()
    for model, optimizer in zip(models, optimizers, strict=True):
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        train(model, optimizer)
        scheduler.step()
        optimizer.half_life = 3
        optimizer.param_groups[0]["weight_decay"] = 0.1
        train(model, optimizer)
        optimizer.param_groups[0]["fused"] = False
        train(model, optimizer)
    assert_same(models, optimizers)


def distributed(rank, folder, as_bucket_view, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=1)
    models, optimizers = pair(bias_correction=True)
    for model, optimizer in zip(models, optimizers, strict=True):
        wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=as_bucket_view)
        train(wrapped, optimizer)
        train(wrapped, optimizer, set_to_none=False)
    results.put(
        (is_uniform(optimizers[0]), [[p.detach().tolist() for p in model.parameters()] for model in models])
    )
    torch.distributed.destroy_process_group()
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("as_bucket_view", [False, True])
def test_step_with_gradient_views_of_ddp_equals_the_rule(as_bucket_view, tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=distributed, args=(0, tmp_path, as_bucket_view, results))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    uniform, (own, other) = results.get()
    assert uniform
    for mine, theirs in zip(own, other, strict=True):
        assert torch.allclose(torch.tensor(mine), torch.tensor(theirs), rtol=1e-6)


# -- memory of other owners -------------------------------------------------------------------------------


def test_step_moves_neither_parameters_nor_gradients():
    model = network()
    held = {"state_dict": model.state_dict(), "detached": [param.detach() for param in model.parameters()]}
    optimizer = RMSprop(model.parameters(), lr=0.01, max_grad_norm=0.1, fused=True)
    train(model, optimizer, updates=1)
    places = [(param.data_ptr(), param.grad.data_ptr(), param.grad) for param in model.parameters()]
    train(model, optimizer, updates=3, set_to_none=False)
    for (name, param), (place, grad_place, grad), detached in zip(
        model.named_parameters(), places, held["detached"], strict=True
    ):
        assert (param.data_ptr(), param.grad.data_ptr()) == (place, grad_place)
        assert param.grad is grad
        assert torch.equal(held["state_dict"][name], param)
        assert torch.equal(detached, param)


def test_plan_that_changes_while_it_is_read_raises_runtime_error(monkeypatch):
    param = nn.Parameter(torch.ones(4))
    param.grad = torch.ones(4)
    monkeypatch.setattr(UniformBatch, "collect", lambda batch: False)
    with pytest.raises(RuntimeError, match=naming("step()", "change")):
        RMSprop([param]).step()


def test_step_keeps_weights_in_shared_memory():
    memory = SharedMemory(create=True, size=64)
    data = torch.frombuffer(memory.buf, dtype=torch.float32, count=4)
    data.fill_(1.0)
    param = nn.Parameter(data)
    optimizer = RMSprop([param], lr=0.1, fused=True)
    param.grad = torch.ones(4)
    optimizer.step()
    seen = struct.unpack("4f", bytes(memory.buf[:16]))
    # The first step is lr / sqrt(1 - 0.99) = 1.
    assert seen == pytest.approx([0.0] * 4, abs=1e-6)
    del param, data, optimizer
    gc.collect()
    memory.close()
    memory.unlink()


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize(
    "new", [torch.ones(64, 64), torch.ones(9), torch.ones(4, 2)], ids=lambda new: str(new.shape)
)
def test_step_after_a_parameter_has_another_size_raises_value_error(fused, new):
    param = nn.Parameter(torch.ones(2, 4))
    optimizer = RMSprop({"weight": param}.items(), fused=fused)
    param.grad = torch.ones(2, 4)
    optimizer.step()
    param.grad = None
    param.data = new.clone()
    param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match=naming("parameter 0", "'weight'", "'square_avg'", "shape")):
        optimizer.step()
    assert torch.equal(param, new)


@pytest.mark.parametrize("change", [lambda data: data.t(), lambda data: data.double(), lambda data: data.half()])
def test_step_after_a_parameter_has_other_strides_or_precision_equals_the_rule(change):
    after = []
    for fused in (None, False):
        param = nn.Parameter(torch.arange(9.0).reshape(3, 3))
        optimizer = RMSprop([param], lr=0.1, fused=fused)
        param.grad = torch.arange(9.0).reshape(3, 3)
        optimizer.step()
        param.grad = None
        param.data = change(param.data)
        param.grad = torch.arange(9.0).reshape(3, 3).to(param.dtype)
        optimizer.step()
        after.append(param.detach().clone())
    torch.testing.assert_close(*after)


@pytest.mark.parametrize("fused", [None, False])
def test_step_of_averages_of_other_strides_equals_torch(fused):
    def train_in_both_formats(optimizer_class, **options):
        param = nn.Parameter(torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last))
        optimizer = optimizer_class([param], lr=0.1, momentum=0.5, **options)
        for memory_format in (torch.channels_last, torch.contiguous_format):
            param.grad = None
            param.data = param.data.contiguous(memory_format=memory_format)
            param.grad = torch.arange(1.0, 25.0).reshape(2, 3, 2, 2).contiguous(memory_format=memory_format)
            optimizer.step()
        return param.detach()

    ours = train_in_both_formats(RMSprop, fused=fused)
    torch.testing.assert_close(ours, train_in_both_formats(torch.optim.RMSprop))


def test_step_after_a_resized_gradient_does_not_call_the_kernel(monkeypatch):
    param = nn.Parameter(torch.ones(4))
    optimizer = RMSprop([param])
    param.grad = torch.ones(4)
    optimizer.step()
    param.grad.resize_(2)
    monkeypatch.setattr(FusedKernel, "update", lambda *args, **_: pytest.fail("entered"))
    with pytest.raises(RuntimeError):
        optimizer.step()


# -- the plan ---------------------------------------------------------------------------------------------


def parameter(*shape, dtype=torch.float32):
    param = nn.Parameter(torch.ones(shape, dtype=dtype))
    param.grad = torch.ones_like(param)
    return param


def groups_of(params, **options):
    return RMSprop(params, **options).param_groups


def sizes(batches):
    """For each batch, whether it is uniform and the number of its parameters."""
    return [(batch.is_uniform, len(batch.grads)) for _, batch in batches]


def test_collect_puts_parameters_of_one_precision_and_past_in_one_batch():
    params = [parameter(2), parameter(3), parameter(2, dtype=torch.float64), parameter(2, dtype=torch.float16)]
    groups, states = groups_of(params), defaultdict(dict)
    plan, batches = collect_batches(None, groups, states)
    assert sizes(batches) == [(True, 2), (True, 1), (False, 1)]
    assert [batch.params for _, batch in batches] == [params[:2], [params[2]], [params[3]]]
    assert collect_batches(plan, groups, states)[0] is plan


@pytest.mark.parametrize(
    "options",
    [
        {"fused": False},
        {"foreach": True},
        {"differentiable": True},
        {"max_update_rms": 1.0},
        {"momentum": 0.5, "cautious": True},
        {"lr": torch.tensor(0.1, requires_grad=True), "differentiable": True},
    ],
    ids=str,
)
def test_collect_of_a_group_whose_options_exclude_fused_kernels_has_no_uniform_batch(options):
    _, batches = collect_batches(None, groups_of([parameter(2), parameter(3)], **options), defaultdict(dict))
    assert sizes(batches) == [(False, 2)]


@pytest.mark.filterwarnings("ignore:.*duplicate.*")
def test_collect_parameter_listed_twice_is_updated_twice():
    twice, once = parameter(2), parameter(2)
    groups = groups_of([once])
    groups[0]["params"] += [twice, twice]
    _, batches = collect_batches(None, groups, defaultdict(dict))
    assert sizes(batches) == [(True, 1), (False, 2)]


def test_collect_of_a_parameter_without_gradient_leaves_it_out():
    params = [parameter(2), parameter(3)]
    params[1].grad = None
    groups, states = groups_of(params), defaultdict(dict)
    plan, batches = collect_batches(None, groups, states)
    assert sizes(batches) == [(True, 1)]
    assert params[1] not in states
    params[1].grad = torch.ones(3)
    again, batches = collect_batches(plan, groups, states)
    assert again is not plan
    assert sizes(batches) == [(True, 2)]


@pytest.mark.parametrize(
    "change",
    [
        lambda groups, states: groups.append(groups_of([parameter(4)])[0]),
        lambda groups, states: groups[0]["params"].reverse(),
        lambda groups, states: groups[0].update(fused=False),
        lambda groups, states: groups[0].update(momentum=0.5),
        lambda groups, states: states.update({groups[0]["params"][0]: {}}),
        lambda groups, states: states[groups[0]["params"][0]].update(square_avg=torch.ones(2)),
        lambda groups, states: states[groups[0]["params"][0]].update(step=torch.tensor(0.0)),
        lambda groups, states: states[groups[0]["params"][0]].pop("square_avg"),
        lambda groups, states: setattr(groups[0]["params"][0], "grad", None),
        lambda groups, states: setattr(groups[0]["params"][0], "grad", torch.ones(2).to_sparse()),
        lambda groups, states: setattr(groups[0]["params"][0], "grad", torch.ones(1).expand(2)),
        lambda groups, states: groups[0]["params"][0].grad.resize_(1),
        lambda groups, states: setattr(groups[0]["params"][0], "data", torch.ones(1).expand(2)),
        lambda groups, states: setattr(groups[0]["params"][0], "data", torch.ones(9)),
    ],
)
def test_collect_after_a_change_needs_a_new_plan(change):
    groups, states = groups_of([parameter(2), parameter(3)]), defaultdict(dict)
    plan, _ = collect_batches(None, groups, states)
    assert plan.collect(groups, states) is not None
    change(groups, states)
    assert plan.collect(groups, states) is None


def test_collect_with_a_plan_that_is_never_valid_raises_runtime_error(monkeypatch):
    monkeypatch.setattr(Plan, "collect", lambda *args: None)
    with pytest.raises(RuntimeError, match=naming("threads")):
        collect_batches(None, groups_of([parameter(2)]), defaultdict(dict))


def test_step_of_a_capturable_group_on_a_cpu_names_the_devices():
    with pytest.raises(RuntimeError, match=naming("capturable=True", "cuda", "cpu")):
        RMSprop([parameter(2)], capturable=True).step()


# -- generated options and gradients ----------------------------------------------------------------------

RANDOM_OPTIONS = st.fixed_dictionaries(
    {"lr": st.floats(0.0, 1.0), "eps": st.floats(1e-12, 1.0)},
    optional={
        "half_life": st.floats(0.01, 1e5),
        "rho": st.floats(0.0, 0.9999),
        "weight_decay": st.floats(0.0, 0.1),
        "momentum": st.floats(-0.9, 0.9),
        "optimism": st.floats(0.0, 1.0),
        "centered": st.booleans(),
        "bias_correction": st.booleans(),
        "eps_in_sqrt": st.booleans(),
        "initial_second_moment": st.floats(0.0, 10.0),
        "decoupled_weight_decay": st.booleans(),
        "nesterov": st.booleans(),
        "lr_in_momentum": st.booleans(),
        "cautious": st.booleans(),
        "max_update_rms": st.floats(0.1, 10.0),
        "maximize": st.booleans(),
        "max_grad_norm": st.floats(1e-3, 1e3),
        "max_tensor_norm": st.floats(1e-3, 1e3),
        "max_grad_value": st.floats(1e-3, 1e3),
        "max_grad_ratio": st.floats(1.1, 10.0),
        "on_nonfinite": st.sampled_from(["raise", "skip"]),
    },
)
# Sizes of the gradients of each update. None means no gradients; 1e-40 is subnormal in float32.
SIZES = st.lists(st.sampled_from([None, 0.0, 1e-40, 1e-30, 1e-8, 1.0, 1e6, 1e18]), min_size=1, max_size=8)


def gradients(model, size, seed):
    """Set random gradients of a given size; a size of None removes the gradients."""
    generator = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        noise = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        param.grad = None if size is None else (size * noise).to(param.dtype)


def optimized(options, sizes, dtype, fused):
    """A network after updates with gradients of these sizes, its optimizer, and its largest gradient."""
    model, most = network(dtype), 0.0
    optimizer = RMSprop(model.parameters(), fused=fused, **options)
    for seed, size in enumerate(sizes):
        gradients(model, size, seed)
        optimizer.step()
        most = max([most, *(float(one.grad.abs().max()) for one in model.parameters() if one.grad is not None)])
    return model, optimizer, most


def coupled(options):
    return options.get("weight_decay", 0.0) and not options.get("decoupled_weight_decay")


@given(options=RANDOM_OPTIONS, sizes=SIZES, fused=st.sampled_from([None, False]))
@example(
    options={"lr": 2e-313, "eps": 1.0, "half_life": 1.0, "momentum": 0.5, "lr_in_momentum": True},
    sizes=[0.0],
    fused=None,
)
def test_step_with_any_options_and_gradients_is_finite_or_raises(options, sizes, fused):
    said = ""
    try:
        RMSprop(network().parameters(), **options)
    except ValueError as error:
        said = str(error)
    if said:
        assert "got" in said
        return
    model, optimizer, most = optimized(options, sizes, torch.float32, fused)
    assert 0.0 <= optimizer.rho < 1.0
    assert all(param.isfinite().all() for param in model.parameters())
    for state in optimizer.state_dict()["state"].values():
        assert all(torch.as_tensor(value).isfinite().all() for value in state.values())
        assert (state["square_avg"] >= 0).all()
        if not coupled(options):
            highest = max(most**2, options.get("initial_second_moment", 0.0))
            assert float(state["square_avg"].max()) <= highest * (1 + 1e-5)


@given(options=RANDOM_OPTIONS, sizes=SIZES, later=SIZES, fused=st.sampled_from([None, False]))
@example(
    options={"lr": 0.1, "eps": 0.5, "max_grad_norm": 3.0, "half_life": 0.25}, sizes=[1.0], later=[1e6], fused=None
)
@example(
    options={"lr": 0.1, "eps": 1.0, "max_tensor_norm": 1.0, "max_grad_norm": 1.0},
    sizes=[None, 1.0] * 10,
    later=[1.0, 1.0],
    fused=None,
)
@example(
    options={
        "lr": 0.1,
        "eps": 1.0,
        "rho": 0.0,
        "max_grad_value": 1.0,
        "max_tensor_norm": 1.0,
        "max_grad_norm": 1.0,
    },
    sizes=[None, 0.0],
    later=[None, 0.0] * 3 + [None, 1.0],
    fused=None,
)
def test_load_state_dict_of_any_optimizer_is_bit_identical(options, sizes, later, fused):
    try:
        model, optimizer, _ = optimized(options, sizes, torch.float32, fused)
    except ValueError:
        return
    again = copy.deepcopy(model)
    for param in again.parameters():
        param.grad = None
    other = RMSprop(again.parameters(), fused=fused, **options)
    other.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    for seed, size in enumerate(later):
        for its, one in ((model, optimizer), (again, other)):
            gradients(its, size, 100 + seed)
            one.step()
    assert_same((model, again), (optimizer, other), tolerance=0.0)


@given(options=RANDOM_OPTIONS, sizes=SIZES)
@example(
    options={"lr": 0.0, "eps": 0.5, "rho": 0.0, "max_grad_ratio": 1.5, "initial_second_moment": 1.0}, sizes=[1.0]
)
def test_step_with_any_options_in_uniform_batches_equals_the_rule(options, sizes):
    try:
        own, fused, _ = optimized(options, sizes, torch.float64, None)
    except ValueError:
        return
    if options.get("centered"):
        return  # the step divides by v - m*m, which may be only a rounding error
    if 0.0 < fused.rho < 1e-6:
        return  # in the rule, rounding 1 - rho to 1 discards the remaining part of a huge v
    plain, other, _ = optimized(options, sizes, torch.float64, False)
    assert_same((own, plain), (fused, other), tolerance=1e-6)
