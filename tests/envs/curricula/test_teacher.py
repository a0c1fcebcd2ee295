import json
import sys
from types import ModuleType

import numpy as np
import pytest

from rl_rms.envs.curricula import (
    Curriculum,
    Teacher,
)
from tests.naming import naming


def test_teacher_passes_the_history_to_its_function():
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


def test_teacher_timescale_is_the_span_between_changed_tasks():
    teacher = Teacher(["level"], lambda history, random: {"level": float(len(history) // 3)})
    scales = []
    for _ in range(7):
        teacher.task(0)
        scales.append(teacher.timescale)
        teacher.record(0.0, 10, 0)
    assert scales == [np.inf, np.inf, np.inf, 30, 30, 30, 30]


def test_teacher_with_a_path_imports_the_function(monkeypatch):
    module = ModuleType("teaching")
    module.choose = lambda history, random: {"level": 3.0}
    monkeypatch.setitem(sys.modules, "teaching", module)
    config = {"teacher": {"targets": ["level"], "choose": "teaching:choose"}}
    teacher = Curriculum.from_config(config)
    assert teacher.task(0) == {"level": 3.0}
    assert teacher.to_config() == config


@pytest.mark.parametrize("task", [{"other": 1.0}, {}, 3.0, {"level": 1.0, "more": 2.0}])
def test_teacher_whose_function_returns_no_task_names_the_result(task):
    with pytest.raises(ValueError, match=naming("choose", "level")):
        Teacher(["level"], lambda history, random: task).task(0)
    with pytest.raises(ValueError, match=naming("Teacher", "level", "nan")):
        Teacher(["level"], lambda history, random: {"level": float("nan")}).task(0)
