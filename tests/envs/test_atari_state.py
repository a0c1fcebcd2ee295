"""Atari games that are saved and restored within a game."""

import warnings

import pytest

from rl_rms.envs import make_vec
from tests.envs.lives import play, same, through_json

pytest.importorskip("ale_py")
pytest.importorskip("cv2")
WRAPPERS = [
    "RecordEpisodeStatistics",
    "AtariPreprocessing",
    {"FrameStackObservation": {"stack_size": 4}},
    {"ClipReward": {"min_reward": -1.0, "max_reward": 1.0}},
]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_load_of_an_atari_snapshot_continues_exactly(mode):
    def make():
        return make_vec("ale_py:ALE/Pong-v5", 2, wrappers=WRAPPERS, vectorization_mode=mode, frameskip=1, seed=0)

    env, loaded = make(), make()
    env.reset(seed=1)
    play(env, 60, seed=0)
    loaded.reset(seed=5)
    play(loaded, 33, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.load_state_dict(through_json(env.state_dict()))
    # RecordEpisodeStatistics also reports wall time, which is not part of a transition.
    assert same(play(loaded, 1_000, seed=1), play(env, 1_000, seed=1))
    env.close()
    loaded.close()
