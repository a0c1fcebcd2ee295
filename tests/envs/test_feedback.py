"""The curriculum and the adversaries receive the results of episodes."""

import json

import pytest

from rl_rms.envs.curricula import Staged, Teacher
from rl_rms.envs.feedback import Feedback
from rl_rms.envs.schedules import AdversarialBurst, Constant
from tests.naming import naming

BURST = AdversarialBurst(base=0.0, low=-1.0, high=1.0, threshold=10.0, duration=3, window=1)


def teacher():
    """A teacher whose tasks count the episodes that have ended."""
    return Teacher(["level"], lambda history, random: {"level": float(len(history))})


def end(feedback, rewards, clock=0):
    """End an episode of one transition in each environment."""
    n = len(rewards)
    return feedback.record(clock, rewards, [True] * n, [True] * n, [None] * n)


def test_begin_draws_tasks_only_for_the_given_rows():
    feedback = Feedback({}, teacher(), range(3))
    feedback.begin([0, 1, 2])
    before = feedback.tasks
    end(feedback, [1.0, 1.0, 1.0])
    feedback.begin([1])
    assert (feedback.tasks.tolist(), before.tolist()) == ([[0.0, 3.0, 0.0]], [[0.0, 0.0, 0.0]])


def test_record_reports_returns_with_the_number_of_the_environment():
    curriculum = teacher()
    feedback = Feedback({}, curriculum, (7,))
    feedback.begin([0])
    feedback.record(1, [1.5], [True], [False], [None])
    feedback.record(2, [0.0], [False], [False], [None])
    feedback.record(3, [2.0], [True], [True], [True])
    assert curriculum.history == (({"level": 0.0}, 3.5, 2, True, 7),)


def test_record_returns_true_if_an_adversary_starts_a_burst():
    feedback = Feedback({"a": BURST, "b": Constant(1.0)}, None)
    assert feedback.is_needed
    feedback.begin([0])
    assert not end(feedback, [5.0], clock=1)
    feedback.begin([0])
    assert end(feedback, [20.0], clock=2)
    assert feedback.schedules == {"a": BURST.strike(2, -1.0), "b": Constant(1.0)}
    feedback.restart(seed=0)
    assert feedback.schedules["a"] == BURST


def test_restart_resets_the_curriculum():
    curriculum = Staged([{"level": 1.0}, {"level": 2.0}], threshold=1.0, window=1)
    feedback = Feedback({}, curriculum)
    feedback.begin([0])
    end(feedback, [1.0])
    assert curriculum.stage == 1
    feedback.restart(seed=0)
    assert curriculum.stage == 0


@pytest.mark.parametrize(("episodes", "expected"), [(True, 3.0), (False, 2.0)])
def test_load_state_dict_with_episodes_continues_their_count(episodes, expected):
    feedback, curriculum = Feedback({}, teacher()), teacher()
    feedback.begin([0])
    feedback.record(1, [1.0], [True], [False], [None])
    other = Feedback({}, curriculum)
    other.load_state_dict(json.loads(json.dumps(feedback.state_dict())), episodes=episodes)
    end(other, [2.0])
    assert curriculum.history[0].episode_return == expected


@pytest.mark.parametrize(
    ("saved", "loads", "named"),
    [
        (Feedback({}, None), Feedback({}, teacher()), ("without a curriculum",)),
        (Feedback({}, teacher()), Feedback({}, None), ("with a curriculum",)),
        (Feedback({"a": BURST}, None), Feedback({}, None), ("['a']", "no target")),
    ],
)
def test_load_state_dict_of_another_kind_names_the_difference(saved, loads, named):
    with pytest.raises(ValueError, match=naming(*named, "make")):
        loads.load_state_dict(saved.state_dict(), episodes=True)


def test_is_needed_without_curriculum_or_adversary_is_false():
    assert not Feedback({"b": Constant(1.0)}, None).is_needed
