import numpy as np
import pytest

from rl_rms.agents.minibatches import Minibatches


class TwoWorkers:
    """One of two workers, whose all_gather returns the given masks of both workers."""

    size, alone = 2, False

    def __init__(self, rank, masks):
        self.rank, self.masks = rank, masks

    def all_gather(self, values):
        assert np.array_equal(values, self.masks[self.rank])
        return np.stack(self.masks).astype(np.float64)


def epochs_of(mask, batch_size, *, seed=0, n_epochs=1, **options):
    return list(Minibatches(mask, batch_size, **options).epochs(n_epochs, np.random.default_rng(seed)))


def test_epochs_have_every_transition_of_the_mask_once_and_a_smaller_last_minibatch():
    mask = np.ones((5, 3), bool)
    mask[1, 2] = mask[4, 0] = False
    parts = epochs_of(mask, 4, n_epochs=2)
    assert [len(part.rows) for part in parts] == [4, 4, 4, 1] * 2
    assert [part.epoch for part in parts] == [0] * 4 + [1] * 4
    for epoch in range(2):
        rows = np.concatenate([part.rows for part in parts if part.epoch == epoch])
        assert sorted(rows) == np.flatnonzero(mask).tolist()
    assert sum(part.fraction for part in parts) == pytest.approx(2.0)
    assert {part.share for part in parts} == {1.0}
    orders = [np.concatenate([part.rows for part in half]).tolist() for half in (parts[:4], parts[4:])]
    assert orders[0] != orders[1]


def test_whole_rollouts_have_all_transitions_of_their_sub_environments():
    mask = np.ones((4, 5), bool)
    mask[2, 1] = False
    mask[:, 4] = False  # a sub-environment without a transition is in no minibatch
    parts = epochs_of(mask, 9, whole_rollouts=True)
    assert [len(set(part.rows % 5)) for part in parts] == [2, 2]
    for part in parts:
        assert sorted(part.rows) == np.flatnonzero(mask & np.isin(np.arange(5), part.rows % 5)).tolist()
    assert sorted(np.concatenate([part.rows for part in parts])) == np.flatnonzero(mask).tolist()


def test_whole_rollouts_with_a_small_batch_size_have_one_sub_environment_each():
    assert [len(part.rows) for part in epochs_of(np.ones((4, 3), bool), 2, whole_rollouts=True)] == [4, 4, 4]


@pytest.mark.parametrize("whole_rollouts", [True, False])
def test_minibatches_of_two_workers_equal_one_process(whole_rollouts):
    mask = np.random.default_rng(1).random((6, 4)) < 0.8
    masks = [mask[:, :2], mask[:, 2:]]
    alone = epochs_of(mask, 7, seed=3, whole_rollouts=whole_rollouts)
    own = [
        epochs_of(masks[rank], 7, seed=3, whole_rollouts=whole_rollouts, workers=TwoWorkers(rank, masks))
        for rank in (0, 1)
    ]
    for one, first, second in zip(alone, *own, strict=True):
        # Sub-environments 2 and 3 are the sub-environments 0 and 1 of the second worker.
        rows = [4 * (first.rows // 2) + first.rows % 2, 4 * (second.rows // 2) + second.rows % 2 + 2]
        assert sorted(np.concatenate(rows)) == sorted(one.rows)
        assert first.share == pytest.approx(len(first.rows) / len(one.rows))
        assert first.share + second.share == pytest.approx(1.0)
        assert first.fraction == second.fraction == one.fraction
