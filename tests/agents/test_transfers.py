import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rl_rms.agents.transfers import DeviceRollout, to_device, to_floats
from tests.agents.counted_gpu import CUDA, CountedGpu

CPU = torch.device("cpu")


def test_to_device_on_the_cpu_shares_memory():
    array = np.zeros(3)
    to_device(array, CPU)[1] = 5.0
    assert array.tolist() == [0.0, 5.0, 0.0]


def test_to_device_on_cuda_copies_without_waiting_and_keeps_the_values():
    array = np.arange(4)
    with CountedGpu() as gpu:
        tensor = to_device(array, CUDA)
        array[:] = 9
        assert (gpu.uploads, gpu.waits) == ([array.nbytes], [])
        assert tensor.device.type == "cuda"
        assert tensor.tolist() == [0, 1, 2, 3]


def test_to_floats_reads_all_metrics_in_one_copy():
    with CountedGpu() as gpu:
        numbers = to_device(np.array([0.5, 1.5, 2.5]), CUDA)
        rows = [{"a": numbers[0], "b": 7.0}, {}, {"b": numbers[1], "a": numbers[2]}]
        assert to_floats(rows) == [{"a": 0.5, "b": 7.0}, {}, {"b": 1.5, "a": 2.5}]
        assert gpu.waits == ["copy to the CPU"]


def test_to_floats_without_tensors_reads_nothing():
    with CountedGpu() as gpu:
        assert to_floats([{"a": 1.0}]) == [{"a": 1.0}]
        assert gpu.waits == []


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_device_rollout_has_the_values_of_the_rollout_in_rows(counting, rollout_of, mode):
    rollout = rollout_of(counting([(2, True), (9, True)], mode), 4, action=1)
    found = DeviceRollout.of(rollout, CPU, is_recurrent=True)
    assert found.observations.tolist() == rollout.observations.reshape(10, 1).tolist()
    assert found.actions.tolist() == [1] * 8
    assert found.starts.tolist() == rollout.starts.tolist()
    assert found.action_masks is None
    if mode is AutoresetMode.NEXT_STEP:
        assert found.final_observations is None
    else:
        assert found.final_observations.tolist() == [[2.0], [2.0]]


def test_device_rollout_of_a_plain_policy_has_no_starts(counting, rollout_of):
    assert DeviceRollout.of(rollout_of(counting([(2, True)]), 3), CPU, is_recurrent=False).starts is None


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda x: bool(x[0] > 0),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: x.unique(),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.ones(2).to(x.device, non_blocking=True),
        lambda x: torch.ones(2).pin_memory().to(x.device),
        lambda x: torch.as_tensor(np.ones(2), device=x.device),
        lambda x: x.copy_(torch.ones(2)),
        lambda x: torch.autograd.grad(x.requires_grad_()[torch.tensor([True, False]).to(x.device)].sum(), x),
    ],
)
def test_counted_gpu_each_operation_that_waits_is_counted(wait):
    with CountedGpu() as gpu:
        tensor = to_device(np.array([1.0, -1.0]), CUDA)
        gpu.restart()
        wait(tensor)
        assert gpu.waits


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.index_select(
            0, torch.zeros(1, dtype=torch.int64).pin_memory().to(x.device, non_blocking=True)
        ),
        lambda x: torch.zeros(2, device=x.device).add_(x).masked_fill(x > 0, 0.0),
        lambda x: torch.autograd.grad(x.requires_grad_().square().sum(), x),
    ],
)
def test_counted_gpu_operations_on_the_gpu_do_not_wait(operation):
    with CountedGpu() as gpu:
        operation(to_device(np.array([1.0, -1.0]), CUDA))
        assert gpu.waits == []
