import json
import sys
from types import ModuleType

import numpy as np
import pytest

from rl_rms.envs.curricula import (
    ALPGMM,
    Curriculum,
    DomainRandomization,
    Learnability,
    LearningProgress,
    LinearRamp,
    PrioritizedLevelReplay,
    Teacher,
)

TASKS = [{"level": float(one)} for one in range(4)]


def begin(curriculum, task, drawn, env_index=0):
    """Let an episode begin with a certain task, as if it had been drawn."""
    curriculum.load_state_dict({**curriculum.state_dict(), "begun": [[env_index, task, drawn]]})


def force(curriculum, number, ret=0.0, success=None, env_index=0):
    """Let an episode of a certain task end."""
    begin(curriculum, TASKS[number], number, env_index)
    curriculum.record(ret, 10, env_index, success)


def test_a_ramp_goes_straight():
    ramp = LinearRamp({"length": 1.0, "gravity": 0.0}, {"length": 0.5, "gravity": 10.0}, over=100)
    seen = []
    for _ in range(6):
        seen.append(ramp.task(0))
        ramp.record(0.0, 25, 0)
    assert [one["length"] for one in seen] == [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    assert [one["gravity"] for one in seen] == [0, 2.5, 5, 7.5, 10, 10]
    assert ramp.difficulty == 1.0


def test_a_ramp_changes_with_every_episode_until_it_is_up():
    ramp = LinearRamp({"length": 1.0}, {"length": 0.5}, over=100)
    scales = []
    for length in (20, 30, 50, 40, 60):
        ramp.task(0)
        ramp.record(0.0, length, 0)
        scales.append(ramp.timescale)
    # A running mean of the first three; then the time since the last change.
    assert scales == pytest.approx([20, 0.7 * 20 + 0.3 * 30, 0.7 * 23 + 0.3 * 50, 40, 100])


def test_randomization_covers_its_ranges_evenly():
    curriculum = DomainRandomization({"length": [0.5, 1.5], "gravity": {"values": [1, 2, 4]}})
    tasks = [curriculum.task(0) for _ in range(3_000)]
    lengths = np.array([task["length"] for task in tasks])
    assert np.histogram(lengths, bins=4, range=(0.5, 1.5))[0] == pytest.approx([750] * 4, rel=0.15)
    values, counts = np.unique([task["gravity"] for task in tasks], return_counts=True)
    assert values.tolist() == [1, 2, 4]
    assert counts == pytest.approx([1_000] * 3, rel=0.15)


def test_progress_is_how_far_a_fast_average_is_from_a_slow_one():
    curriculum = LearningProgress(TASKS, fast=0.5, slow=0.1, uniform=0.2)
    assert curriculum.probabilities.tolist() == [0.25] * 4
    force(curriculum, 0, ret=10.0)
    assert curriculum.progress.tolist() == [0, 0, 0, 0]  # a single result is no progress
    force(curriculum, 0, ret=20.0)  # 15 and 11
    force(curriculum, 2, ret=8.0)
    force(curriculum, 2, ret=5.5)  # 6.75 and 7.75
    assert curriculum.progress == pytest.approx([4, 0, 1, 0])
    assert curriculum.probabilities == pytest.approx([0.05 + 0.8 * 0.8, 0.05, 0.05 + 0.8 * 0.2, 0.05])
    assert curriculum.log()["progress/0"] == pytest.approx(4)


def test_progress_is_that_of_successes_where_there_are_any():
    curriculum = LearningProgress(TASKS, fast=0.5, slow=0.1)
    force(curriculum, 1, ret=1e6, success=False)
    force(curriculum, 1, ret=-1e6, success=True)
    assert curriculum.progress == pytest.approx([0, 0.4, 0, 0])
    by_return = LearningProgress(TASKS, fast=0.5, slow=0.1, success_return=3.0)
    force(by_return, 1, ret=2.0)
    force(by_return, 1, ret=3.0)
    assert by_return.progress == pytest.approx([0, 0.4, 0, 0])


def test_a_learner_is_given_what_it_learns():
    """Task 0 is mastered, task 3 hopeless; 1 is learned first and then 2, each by playing it."""
    curriculum = LearningProgress(TASKS, fast=0.1, slow=0.02)
    random = np.random.default_rng(0)
    skill = np.zeros(4)
    given = []
    for _ in range(3_000):
        number = int(curriculum.task(0)["level"])
        skill[1] += 0.002 * (number == 1)
        skill[2] += 0.002 * (number == 2) * (skill[1] >= 1)
        rate = [1.0, min(skill[1], 1.0), min(skill[2], 1.0), 0.0][number]
        curriculum.record(0.0, 10, 0, success=bool(random.random() < rate))
        given.append(number)
    shares = np.bincount(given, minlength=4) / len(given)
    assert shares[1] + shares[2] > 0.65  # 0.5 by chance
    assert shares[1] > 0.3
    assert shares[3] < 0.2


def test_learnability_is_that_of_a_coin():
    curriculum = Learnability(TASKS, rate=0.5, uniform=0.0)
    assert curriculum.probabilities.tolist() == [0.25] * 4
    force(curriculum, 0, success=True)  # 0.75
    force(curriculum, 1, success=False)
    force(curriculum, 1, success=False)  # 0.125
    assert [curriculum.log()[f"success_rate/{number}"] for number in range(4)] == [0.75, 0.125, 0.5, 0.5]
    weights = np.array([0.75 * 0.25, 0.125 * 0.875, 0.25, 0.25])
    assert curriculum.probabilities == pytest.approx(weights / weights.sum())


def test_levels_are_replayed_by_rank_and_age():
    curriculum = PrioritizedLevelReplay(TASKS, beta=1.0, staleness=0.25, replay=0.5)
    assert curriculum.probabilities.tolist() == [0.25] * 4
    for number, score in ((0, 5.0), (1, 1.0), (2, 3.0)):
        curriculum.report_score(0, score)
        force(curriculum, number)
    # Of the played ones: ranks 1, 3, 2 and ages 2, 1, 0. The fourth has half of the episodes to itself.
    by_score = np.array([1, 1 / 3, 1 / 2]) / (1 + 1 / 3 + 1 / 2)
    replayed = 0.75 * by_score + 0.25 * np.array([2, 1, 0]) / 3
    assert curriculum.probabilities == pytest.approx([*(0.5 * replayed), 0.5])
    curriculum.report_score(0, 9.0)
    force(curriculum, 3)
    by_score = np.array([1 / 2, 1 / 4, 1 / 3, 1]) / (1 + 1 / 2 + 1 / 3 + 1 / 4)
    assert curriculum.probabilities == pytest.approx(0.75 * by_score + 0.25 * np.array([3, 2, 1, 0]) / 6)


def test_without_a_reported_score_it_is_the_surprise_of_the_return():
    curriculum = PrioritizedLevelReplay(TASKS)
    force(curriculum, 0, ret=10.0)
    force(curriculum, 0, ret=14.0)  # 4 from the mean 10, which becomes 12
    force(curriculum, 1, ret=3.0)  # a first return counts as the highest so far
    force(curriculum, 0, ret=13.0)  # 1 from the mean 12
    scores, means, *_ = np.array(curriculum.state_dict()["levels"]).T
    assert scores.tolist() == [1.0, 4.0, 0.0, 0.0]
    assert means.tolist() == pytest.approx([37 / 3, 3.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="score must be a finite number >= 0, got -1"):
        curriculum.report_score(0, -1.0)


def test_choices_note_that_another_task_is_likeliest():
    curriculum = LearningProgress(TASKS, fast=0.5, slow=0.1)
    for number, ret in ((0, 0.0), (0, 1.0)):
        force(curriculum, number, ret)
    curriculum.task(0)
    assert curriculum.timescale == np.inf
    for number, ret in ((2, 0.0), (2, 9.0), (2, 9.0)):
        force(curriculum, number, ret)
    curriculum.task(0)
    assert curriculum.timescale == 50  # five episodes of 10 env steps


@pytest.mark.parametrize("kind", [LearningProgress, Learnability, PrioritizedLevelReplay])
def test_states_with_other_tasks_are_refused(kind):
    with pytest.raises(ValueError, match="the state was saved of 4 tasks, this curriculum has 2"):
        kind(TASKS[:2]).load_state_dict(kind(TASKS).state_dict())


def test_the_mixture_finds_where_returns_change():
    """Returns change from episode to episode between 0.3 and 0.5, and nowhere else."""
    curriculum = ALPGMM({"x": [0.0, 10.0]}, fit_every=100, uniform=0.2)
    random = np.random.default_rng(0)
    places = []
    for _ in range(1_000):
        x = curriculum.task(0)["x"]
        places.append(x)
        curriculum.record(float(random.normal() if 3 <= x <= 5 else 7.0), 10, 0)
    assert np.mean([3 <= x <= 5 for x in places[:100]]) < 0.35
    assert np.mean([3 <= x <= 5 for x in places[300:]]) > 0.6
    assert all(0 <= x <= 10 for x in places)
    # A fifth is still drawn from everywhere: of these 80 % lie outside.
    assert 0.1 < np.mean([not 2.5 <= x <= 5.5 for x in places[300:]]) < 0.3
    told = curriculum.log()
    assert told["components"] >= 2
    assert 3 < told["mean/x"] < 5.5
    assert curriculum.timescale == 1_000  # 100 episodes of 10 env steps


def test_progress_is_to_the_nearest_task_before():
    curriculum = ALPGMM({"x": [0.0, 10.0]})
    for place, ret in ((0.2, 1.0), (0.8, 5.0), (0.7, 2.0), (0.1, 2.0), (0.1, 9.0)):
        begin(curriculum, {"x": 10 * place}, [place])
        curriculum.record(ret, 10, 0)
    # The last has two neighbors at the distance 0.1 and 0.
    assert curriculum.state_dict()["progress"] == pytest.approx([0, 4, 3, 1, 7])


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    curriculum = ALPGMM({"x": [0.0, 10.0]}, fit_every=10)
    for _ in range(9):
        curriculum.task(0)
        curriculum.record(0.0, 10, 0)
    curriculum.task(0)
    with pytest.raises(ImportError, match=r"pip install 'rl_rms\[curricula\]'"):
        curriculum.record(0.0, 10, 0)


def test_a_teacher_sees_what_was():
    seen = []

    def choose(history, random):
        seen.append([(one.task["level"], one.episode_return, one.success, one.env_index) for one in history])
        return {"level": len(history) + random.random()}

    teacher = Teacher(["level"], choose, memory=2)
    for number in range(4):
        teacher.task(number)
        teacher.record(10.0 * number, 5, number, success=number > 1)
    levels = [one.task["level"] for one in teacher.history]
    assert [np.floor(level) for level in levels] == [2, 2]
    assert seen[3] == [(pytest.approx(1, abs=1), 10.0, False, 1), (levels[0], 20.0, True, 2)]
    again = Teacher(["level"], choose, memory=2)
    again.load_state_dict(json.loads(json.dumps(teacher.state_dict())))
    assert again.history == teacher.history
    assert again.task(0) == teacher.task(0)
    assert again.log()["mean/level"] == pytest.approx(np.mean(levels))


def test_a_teachers_timescale_is_that_of_its_changes():
    teacher = Teacher(["level"], lambda history, random: {"level": float(len(history) // 3)})
    scales = []
    for _ in range(7):
        teacher.task(0)
        scales.append(teacher.timescale)
        teacher.record(0.0, 10, 0)
    assert scales == [np.inf, np.inf, np.inf, 30, 30, 30, 30]


def test_a_teacher_is_imported_by_its_path(monkeypatch):
    module = ModuleType("teaching")
    module.choose = lambda history, random: {"level": 3.0}
    monkeypatch.setitem(sys.modules, "teaching", module)
    config = {"teacher": {"targets": ["level"], "choose": "teaching:choose"}}
    teacher = Curriculum.from_config(config)
    assert teacher.task(0) == {"level": 3.0}
    assert teacher.to_config() == config


@pytest.mark.parametrize("task", [{"other": 1.0}, {}, 3.0, {"level": 1.0, "more": 2.0}])
def test_a_teachers_task_must_be_one(task):
    with pytest.raises(ValueError, match="choose must give a number for each of level, got"):
        Teacher(["level"], lambda history, random: task).task(0)
    with pytest.raises(ValueError, match="Teacher: level must be a finite number, got nan"):
        Teacher(["level"], lambda history, random: {"level": float("nan")}).task(0)


def test_a_mixtures_state_fits_its_targets_only():
    saved = ALPGMM({"length": [0, 1], "gravity": [0, 1]})
    saved.task(0)
    saved.record(1.0, 10, env_index=0)
    with pytest.raises(ValueError, match="the state was saved of 2 targets, this curriculum has 1"):
        ALPGMM({"length": [0, 1]}).load_state_dict(saved.state_dict())
