"""Cases of distributed training, which test_distributed.py runs in two processes.

Run: python distributed_cases.py RANK FOLDER

Each case returns two lists, which must be equal: weights or diagnostics of `rl_rms.RMSprop`, and the values of a
reference. The reference is torch's RMSprop in the same process group, or `rl_rms.RMSprop` in one process. Every
process trains on the same data.
"""

import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from rl_rms import RMSprop

WORLD_SIZE = 2
TORCH = partial(torch.optim.RMSprop, lr=0.02, alpha=0.9)
OURS = partial(RMSprop, lr=0.02, rho=0.9)
Weights = list[torch.Tensor]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def single() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 4, bias=False)


def train(model, optimizer, updates=4, seed=0, inputs=3):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        optimizer.zero_grad()
        (10.0 * model(torch.randn(6, inputs, generator=generator)).square().mean()).backward()
        optimizer.step()


def whole(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def weights(model) -> Weights:
    return [whole(param) for param in model.parameters()]


def zero(make, *, as_bucket_view) -> Weights:
    # pytest also imports this file, and would report the deprecation warnings of this import as errors.
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = nn.parallel.DistributedDataParallel(network())
    optimizer = ZeroRedundancyOptimizer(
        model.parameters(), make.func, parameters_as_bucket_view=as_bucket_view, **make.keywords
    )
    train(model, optimizer)
    return weights(model)


def fsdp1(make, *, use_orig_params) -> Weights:
    model = FullyShardedDataParallel(network(), use_orig_params=use_orig_params, device_id=torch.device("cpu"))
    train(model, make(model.parameters()))
    with FullyShardedDataParallel.summon_full_params(model):
        return [param.detach().clone().reshape(-1) for param in model.parameters()]


def sharded(make_model=network):
    model = make_model()
    fully_shard(model, mesh=init_device_mesh("cpu", (WORLD_SIZE,)))
    return model


def fsdp2(make, **how) -> Weights:
    model = sharded()
    train(model, make(model.parameters()), **how)
    return weights(model)


def alone(make, make_model=network, **how) -> Weights:
    model = make_model()
    train(model, make(model.parameters()), **how)
    return weights(model)


def fsdp2_of_one_parameter(make) -> Weights:
    model = sharded(single)
    train(model, make(model.parameters()), inputs=5)
    return weights(model)


def diagnosed(make_model) -> Weights:
    """Train, and return the optimizer's diagnostics instead of weights."""
    model = make_model()
    optimizer = OURS(model.parameters())
    train(model, optimizer)
    return [torch.tensor(value) for value in optimizer.diagnostics().values()]


def resumed(make, make_model, *, full) -> Weights:
    """Train, save, load into a new optimizer, and continue."""
    options = StateDictOptions(full_state_dict=full)
    model = make_model()
    optimizer = make(model.parameters())
    train(model, optimizer)
    saved = get_optimizer_state_dict(model, optimizer, options=options)
    again = make(model.parameters())
    # torch initializes a missing state only if no parameter has a gradient.
    model.zero_grad()
    set_optimizer_state_dict(model, again, saved, options=options)
    train(model, again, seed=1)
    return weights(model)


def uninterrupted(make) -> Weights:
    model = network()
    optimizer = make(model.parameters())
    train(model, optimizer)
    train(model, optimizer, seed=1)
    return weights(model)


def beside_torch(case: Callable[..., Weights], **how) -> Callable[[], tuple[Weights, Weights]]:
    return lambda: (case(OURS, **how), case(TORCH, **how))


def beside_one_process(updates=40, **options) -> Callable[[], tuple[Weights, Weights]]:
    make = partial(OURS.func, **{"lr": 0.02, **options})
    return lambda: (fsdp2(make, updates=updates), alone(make, updates=updates))


def one_parameter(**options) -> Callable[[], tuple[Weights, Weights]]:
    make = partial(OURS, **options)
    return lambda: (fsdp2_of_one_parameter(make), alone(make, single, inputs=5))


CASES: dict[str, Callable[[], tuple[Weights, Weights]]] = {
    "zero": beside_torch(zero, as_bucket_view=False),
    "zero_with_bucket_views": beside_torch(zero, as_bucket_view=True),
    "fsdp1": beside_torch(fsdp1, use_orig_params=False),
    "fsdp1_with_original_parameters": beside_torch(fsdp1, use_orig_params=True),
    "fsdp2": beside_torch(fsdp2),
    "fsdp2_max_tensor_norm": beside_one_process(max_tensor_norm=0.1),
    "fsdp2_max_grad_norm": beside_one_process(max_grad_norm=0.1),
    "fsdp2_max_grad_value": beside_one_process(updates=8, max_grad_value=0.05),
    "fsdp2_max_grad_ratio": beside_one_process(updates=8, max_grad_ratio=1.1),
    "fsdp2_nonfinite": beside_one_process(on_nonfinite="skip", max_grad_norm=1.0),
    "fsdp2_auto": beside_one_process(half_life="auto", half_life_bounds=(1.0, 1e6)),
    "fsdp2_centered": beside_one_process(centered=True, momentum=0.5, bias_correction=True, eps=1e-2),
    "fsdp2_one_parameter_max_grad_norm": one_parameter(max_grad_norm=0.1),
    "fsdp2_one_parameter_max_tensor_norm": one_parameter(max_tensor_norm=0.1),
    "fsdp2_diagnostics": lambda: (diagnosed(sharded), diagnosed(network)),
    "full_state_of_one_process": lambda: (resumed(OURS, network, full=True), uninterrupted(OURS)),
    "full_state": lambda: (resumed(OURS, sharded, full=True), uninterrupted(OURS)),
    "sharded_state": lambda: (resumed(OURS, sharded, full=False), uninterrupted(OURS)),
    "full_state_of_auto": lambda: (
        resumed(partial(OURS.func, lr=0.02, half_life="auto"), sharded, full=True),
        uninterrupted(partial(OURS.func, lr=0.02, half_life="auto")),
    ),
}


def main(rank: int, folder: Path) -> None:
    """Run all cases and save their results, or the traceback of an exception."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD_SIZE)
    found: dict[str, object] = {}
    for name, case in CASES.items():
        try:
            found[name] = case()
        except Exception:  # noqa: PERF203
            found[name] = traceback.format_exc()
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
