from collections import defaultdict

import pytest
import torch

from rl_rms import RMSprop
from rl_rms.optim.kernels.loose import LooseGradients, collect_loose
from tests.naming import naming


def with_gradients(*gradients):
    """Zero parameters with given gradients."""
    params = [torch.nn.Parameter(torch.zeros(2)) for _ in gradients]
    for param, grad in zip(params, gradients, strict=True):
        param.grad = grad
    return params


def group(**options):
    return {**RMSprop([torch.zeros(1)]).param_groups[0], **options}


def test_collect_loose_leaves_out_parameters_without_a_gradient():
    params = with_gradients(torch.ones(2), None, torch.full((2,), 3.0))
    states = defaultdict(dict)
    found = collect_loose(params, group(), states)
    assert [one is params[i] for one, i in zip(found.params, (0, 2), strict=True)] == [True, True]
    assert [grad.tolist() for grad in found.grads] == [[1, 1], [3, 3]]
    assert [state["square_avg"].tolist() for state in found.states] == [[0, 0], [0, 0]]
    assert params[1] not in states


def test_collect_loose_of_a_sparse_gradient_names_the_shape_and_the_mend():
    params = with_gradients(torch.ones(2).to_sparse())
    with pytest.raises(RuntimeError, match=naming("sparse", "(2,)", "sparse=False")):
        collect_loose(params, group(), defaultdict(dict))


def test_collect_loose_of_a_capturable_group_on_a_cpu_names_the_devices():
    with pytest.raises(RuntimeError, match=naming("capturable=True", "cuda", "cpu")):
        collect_loose(with_gradients(torch.ones(2)), group(capturable=True), defaultdict(dict))


@pytest.mark.parametrize(("maximize", "expected"), [(False, [0.5, 1.0]), (True, [-0.5, -1.0])])
def test_descended_scales_in_place_and_turns_the_gradients_of_a_maximized_objective(maximize, expected):
    grad = torch.tensor([1.0, 2.0])
    gradients = LooseGradients([torch.zeros(2)], [grad], [{}])
    assert gradients.descended(group(maximize=maximize), 0.5)[0].tolist() == expected
    assert grad.tolist() == [0.5, 1.0]


def test_tensors_of_complex_gradients_are_real_views():
    grad = torch.tensor([1 + 2j])
    (real,) = LooseGradients([grad], [grad], [{}]).tensors
    assert real.tolist() == [[1.0, 2.0]]
    real.mul_(2)
    assert grad.tolist() == [2 + 4j]
