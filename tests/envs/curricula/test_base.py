"""Properties of every curriculum."""

import json
import math

import numpy as np
import pytest
import yaml

from rl_rms.envs.curricula import (
    ALPGMM,
    CURRICULA,
    Curriculum,
    DomainRandomization,
    ExpandingBox,
    Learnability,
    LearningProgress,
    LinearRamp,
    PrioritizedLevelReplay,
    Staged,
    SuccessGated,
    Teacher,
    WilsonGate,
)
from tests.naming import naming

TASKS = [{"length": one} for one in (1.0, 0.7, 0.5, 0.2)]


def wander(history, random):
    """The task that a teacher chooses: the length of the last task plus noise."""
    last = history[-1].task["length"] if history else 0.5
    return {"length": float(np.clip(last + random.normal(0, 0.1), 0.1, 1.0))}


EVERY = [
    LinearRamp({"length": 1.0, "gravity": 5.0}, {"length": 0.5, "gravity": 9.8}, over=900),
    LinearRamp({"length": 1.0}, {"length": 0.5}, over=30, unit="episodes"),
    Staged(TASKS, threshold=8, window=5),
    SuccessGated(TASKS, threshold=0.6, min_episodes=5, window=20, cooldown=10),
    SuccessGated(TASKS, threshold=0.6, success_return=9.0, min_episodes=5, window=20, cooldown=3),
    ExpandingBox(
        {"length": [0.5, 0.6]}, {"length": [0.1, 1.0]}, WilsonGate(0.5, min_episodes=5, window=20), steps=3
    ),
    DomainRandomization({"length": [0.1, 1.0], "gravity": {"values": [1.6, 3.7, 9.8]}}),
    LearningProgress(TASKS),
    LearningProgress(TASKS, fast=0.5, slow=0.1, success_return=9.0),
    Learnability(TASKS, rate=0.2),
    PrioritizedLevelReplay(TASKS, beta=0.5),
    ALPGMM({"length": [0.1, 1.0], "gravity": [1.0, 10.0]}, fit_every=20, max_components=3),
    Teacher(["length"], wander),
]
KINDS = pytest.mark.parametrize(
    "index", range(len(EVERY)), ids=[f"{one.name}_{index}" for index, one in enumerate(EVERY)]
)


def fresh(index):
    """A new curriculum with the arguments of ``EVERY[index]``."""
    one = EVERY[index]
    return Teacher(["length"], wander) if isinstance(one, Teacher) else Curriculum.from_config(one.to_config())


class Learner:
    """An agent that improves over time, with higher returns for long poles."""

    def __init__(self, seed, num_envs=3):
        self.random = np.random.default_rng(seed)
        self.num_envs = num_envs
        self.episodes = 0
        self.begun = {}

    def play(self, curriculum, episodes):
        """Play interleaved episodes of several environments and return their tasks."""
        tasks = []
        for _ in range(episodes):
            env_index = int(self.random.integers(self.num_envs))
            if env_index in self.begun:
                task = self.begun.pop(env_index)
                skill = task.get("length", 0.5) + self.episodes / 200
                success = bool(self.random.random() < skill)
                curriculum.record(10.0 * success + self.random.normal(), 10, env_index, success)
                self.episodes += 1
            self.begun[env_index] = curriculum.task(env_index)
            tasks.append(self.begun[env_index])
        return tasks


def test_every_registered_kind_is_tested():
    assert {type(one) for one in EVERY} == set(CURRICULA.values())


@KINDS
def test_load_state_dict_continues_exactly(index):
    one, other, learner, again = fresh(index), fresh(index), Learner(0), Learner(0)
    one.restart(seed=4)
    learner.play(one, 150)
    other.restart(seed=7)
    Learner(5).play(other, 40)
    other.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    again.random.bit_generator.state = learner.random.bit_generator.state
    again.episodes, again.begun = learner.episodes, dict(learner.begun)
    assert other.log() == one.log()
    assert learner.play(one, 150) == again.play(other, 150)
    assert json.dumps(one.state_dict()) == json.dumps(other.state_dict())
    assert (one.stage_changes, one.timescale) == (other.stage_changes, other.timescale)


@KINDS
def test_restart_with_a_seed_repeats_the_tasks(index):
    one = fresh(index)
    lives = []
    for seed in (3, 3, 4):
        one.restart(seed)
        assert (one.stage, one.stage_changes, one.timescale) == (0, 0, math.inf)
        lives.append(Learner(1).play(one, 120))
    assert lives[0] == lives[1]
    assert Learner(1).play(fresh(index), 120) == Learner(1).play(fresh(index), 120)
    if not isinstance(one, (LinearRamp, Staged, SuccessGated)):
        assert lives[0] != lives[2]


@KINDS
def test_task_sets_the_targets(index):
    one = fresh(index)
    tasks = Learner(2).play(one, 200)
    assert all(set(task) == set(one.targets) for task in tasks)
    assert all(type(value) is float for task in tasks for value in task.values())
    assert len({json.dumps(task) for task in tasks}) > 1
    log = one.log()
    assert all(type(value) is float and math.isfinite(value) for value in log.values())
    assert 0 <= one.difficulty <= 1
    if not isinstance(one, Teacher):
        assert log["difficulty"] == one.difficulty
    # Changing a returned task does not change the curriculum.
    mine = one.task(0)
    mine["length"] = -1.0
    assert one.task(1)["length"] != -1.0


@KINDS
def test_from_config_restores_to_config(index):
    one = EVERY[index]
    if isinstance(one, Teacher):
        with pytest.raises(ValueError, match=naming("choose", "path")):
            one.to_config()
        return
    read = Curriculum.from_config(yaml.safe_load(yaml.safe_dump(one.to_config(), sort_keys=False)))
    assert repr(read) == repr(one)
    assert Curriculum.from_config(one) is one


@KINDS
def test_record_without_an_episode_in_progress_changes_nothing(index):
    one = fresh(index)
    before = json.dumps(one.state_dict())
    one.record(100.0, 50, env_index=9, success=True)
    assert json.dumps(one.state_dict()) == before


@pytest.mark.parametrize("given", [{"name": "other"}, {}, None])
def test_load_state_dict_of_another_kind_names_both(given):
    with pytest.raises(ValueError, match=naming("'staged'")):
        Staged(TASKS, threshold=1).load_state_dict(given)


def test_timescale_is_the_mean_span_between_changes():
    one = Staged(TASKS, threshold=0, window=1)

    def play(length):
        one.task(0)
        one.record(0.0, length, 0)

    assert one.timescale == math.inf
    play(100)
    assert one.timescale == 100
    play(200)
    assert one.timescale == pytest.approx(0.7 * 100 + 0.3 * 200)
    play(50)
    assert one.timescale == pytest.approx(0.7 * 130 + 0.3 * 50)
    play(500)  # the time since the last change is longer than the mean span
    assert one.timescale == 500


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"stagd": {}}, ("curriculum", "staged", "{'stagd': {}}")),
        ({"staged": {"threshold": 1}}, ("staged", "stages")),
        (
            {"staged": {"stages": TASKS, "treshold": 1}},
            ("'treshold'", "stages", "threshold", "window"),
        ),
        ({"staged": {"stages": TASKS}}, ("staged", "threshold")),
        ({"staged": {"stages": [], "threshold": 1}}, ("stages", "[]")),
        ({"staged": {"stages": [{"a": 1}, {"b": 1}], "threshold": 1}}, ("task 0", "a", "task 1", "b")),
        ({"staged": {"stages": [{"a": "x"}], "threshold": 1}}, ("stages[0].a", "'x'")),
        (
            {"success_gated": {"levels": TASKS, "threshold": 2}},
            ("threshold", ">= 0", "<= 1", "2"),
        ),
        ({"success_gated": {"levels": TASKS, "window": 5}}, ("window", ">= 20 episodes", "5")),
        (
            {"success_gated": {"levels": TASKS, "hysteresis": -1}},
            ("hysteresis", ">= 0", "-1"),
        ),
        ({"linear_ramp": {"start": {"a": 1}, "end": {"b": 1}, "over": 5}}, ("task 0", "a", "task 1", "b")),
        (
            {"linear_ramp": {"start": {"a": 1}, "end": {"a": 2}, "over": 0}},
            ("over", ">= 1 steps"),
        ),
        (
            {"linear_ramp": {"start": {"a": 1}, "end": {"a": 2}, "over": 5, "unit": "updates"}},
            ("unit", "steps", "episodes", "'updates'"),
        ),
        ({"domain_randomization": {"ranges": {}}}, ("ranges",)),
        (
            {"domain_randomization": {"ranges": {"a": [2, 1]}}},
            ("ranges.a", "[low, high]", "[2, 1]"),
        ),
        ({"domain_randomization": {"ranges": {"a": 1}}}, ("ranges.a", "[low, high]", "1")),
        (
            {"expanding_box": {"start": {"a": [0, 1]}, "final": {"b": [0, 1]}, "gate": {"wilson": {}}}},
            ("start", "final", "a", "b"),
        ),
        (
            {"expanding_box": {"start": {"a": [0, 1]}, "final": {"a": [0.5, 1]}, "gate": {"wilson": {}}}},
            ("final.a", "start.a"),
        ),
        (
            {"expanding_box": {"start": {}, "final": {"a": [0, 1]}, "gate": {"wilson": {}}}},
            ("start", "{length: [0.5, 1.0]}", "{}"),
        ),
        (
            {"expanding_box": {"start": {"a": [0, 1]}, "final": {"a": [0, 1]}, "gate": {"open": {}}}},
            ("gate", "return", "wilson", "{'open': {}}"),
        ),
        ({"learning_progress": {"tasks": TASKS, "slow": 0.5}}, ("slow=0.5", "fast=0.1")),
        (
            {"learning_progress": {"tasks": TASKS, "uniform": 2}},
            ("uniform", ">= 0", "<= 1", "2"),
        ),
        ({"learnability": {"tasks": TASKS, "rate": 0}}, ("rate", "> 0", "<= 1", "0")),
        ({"prioritized_level_replay": {"tasks": TASKS, "beta": 0}}, ("beta", "> 0")),
        (
            {"alp_gmm": {"ranges": {"a": [0, 1]}, "fit_every": 1}},
            ("fit_every", ">= 10"),
        ),
        (
            {"teacher": {"targets": ["a"], "choose": "math.sin"}},
            ("choose", '"module:function"', "'math.sin'"),
        ),
        ({"teacher": {"targets": "a", "choose": "math:sin"}}, ("targets", "'a'")),
        ({"teacher": {"targets": ["a"], "choose": 3}}, ("choose", "3")),
    ],
)
def test_from_config_wrong_argument_is_named(config, said):
    with pytest.raises(ValueError, match=naming(*said)):
        Curriculum.from_config(config)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere:f", ("choose", '"module:function"', "'nowhere:f'")),
        (":f", ("choose", '"module:function"', "':f'")),
        ("math:pi", ("choose", "'math:pi'")),
    ],
)
def test_teacher_imports_its_function_at_the_first_task(path, said):
    teacher = Curriculum.from_config({"teacher": {"targets": ["a"], "choose": path}})
    with pytest.raises(ValueError, match=naming(*said)):
        teacher.task(0)
