import numpy as np

from rl_rms.agents.rollout import RolloutBuffers, Step


def step(rewards, terminated=(False, False), truncated=(False, False), valid=(True, True)):
    arrays = (np.array(one) for one in (rewards, terminated, truncated, valid))
    return Step(*arrays, finals=[], masked=None, broken=None)


def written(steps, observations=lambda t: np.full((2, 3), float(t), np.float32), masks=None):
    """Buffers and rollout of two sub-environments, whose observations and actions equal the step number."""
    buffers = RolloutBuffers(observations(0), np.zeros(2, np.int64), masks)
    buffers.begin(observations(0), np.ones(2, np.bool_))
    for t, one in enumerate(steps):
        if t == buffers.capacity:
            buffers.double()
        starts = one.terminated | one.truncated
        buffers.write(t, np.full(2, t), None if masks is None else masks, one, observations(t + 1), starts)
    return buffers, buffers.rollout(len(steps), [], [])


def test_rollout_longer_than_the_buffers_keeps_each_step():
    _, rollout = written([step([t, 10.0 * t]) for t in range(5)])
    assert rollout.rewards.tolist() == [[t, 10.0 * t] for t in range(5)]
    assert rollout.actions.tolist() == [[t, t] for t in range(5)]
    assert rollout.observations[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert rollout.starts.tolist() == [[True, True], *[[False, False]] * 5]
    assert rollout.env_steps == 10
    assert rollout.final_index.shape == (0, 2)
    assert rollout.final_observations.shape == (0, 3)
    assert rollout.action_masks is None


def test_rollout_of_nested_observations_keeps_their_structure():
    def observations(t):
        return {"near": np.full((2, 1), t, np.int8), "far": (np.full((2,), t, np.float32),)}

    _, rollout = written([step([0.0, 0.0])] * 3, observations)
    assert rollout.observations["near"][:, 1, 0].tolist() == [0, 1, 2, 3]
    assert rollout.observations["far"][0][:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_rollout_with_action_masks_keeps_them():
    masks = np.array([[True, False], [True, True]])
    _, rollout = written([step([0.0, 0.0])] * 2, masks=masks)
    assert rollout.action_masks.tolist() == [masks.tolist()] * 2


def test_rollout_final_observations_are_stacked_with_their_places():
    buffers, _ = written([step([0.0, 0.0])] * 2)
    finals = [(0, 1, np.array([1.0, 2.0, 3.0])), (1, 0, np.array([4.0, 5.0, 6.0]))]
    rollout = buffers.rollout(2, finals, [])
    assert rollout.final_index.tolist() == [[0, 1], [1, 0]]
    assert rollout.final_observations.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_cut_truncates_valid_transitions_that_did_not_terminate():
    buffers, _ = written([step([0.0, 0.0], terminated=(True, False)), step([0.0, 0.0], valid=(False, True))])
    buffers.cut(0, np.array([True, True]))
    buffers.cut(1, np.array([True, False]))
    rollout = buffers.rollout(2, [], [])
    assert rollout.truncated.tolist() == [[False, True], [False, False]]
    assert rollout.done.tolist() == [[True, True], [False, False]]


def test_masked_transitions_are_unknown_and_cut_advantages_before_and_at_them():
    from dataclasses import replace

    _, rollout = written([step([0.0, 0.0])] * 3)
    assert rollout.known is rollout.valid
    masked = np.zeros((3, 2), np.bool_)
    masked[1, 0] = True
    rollout = replace(rollout, masked=masked)
    assert rollout.known[:, 0].tolist() == [True, False, True]
    assert rollout.cut[:, 0].tolist() == [True, True, False]
    assert not rollout.cut[:, 1].any()
    assert rollout.env_steps == 6
