"""Curricula: rules that set the parameters of each episode, mostly from the results of earlier episodes.

When an episode begins, a curriculum chooses a task, which is a value for each of the curriculum's targets. When
the episode ends, the curriculum records the result. Episodes that end in the same vector step are recorded in the
order of their sub-environments. The targets have the same names as the targets of schedules. A target cannot have
both a curriculum and a schedule. Distributed training does not support curricula.
"""

from rl_rms.envs.curricula.base import CURRICULA, Curriculum, Episode
from rl_rms.envs.curricula.gates import Gate, ReturnGate, WilsonGate
from rl_rms.envs.curricula.mixture import ALPGMM
from rl_rms.envs.curricula.progress import Learnability, LearningProgress
from rl_rms.envs.curricula.ramp import LinearRamp
from rl_rms.envs.curricula.ranges import DomainRandomization, ExpandingBox
from rl_rms.envs.curricula.replay import PrioritizedLevelReplay
from rl_rms.envs.curricula.stages import Staged, SuccessGated
from rl_rms.envs.curricula.teacher import Teacher

__all__ = [
    "ALPGMM",
    "CURRICULA",
    "Curriculum",
    "DomainRandomization",
    "Episode",
    "ExpandingBox",
    "Gate",
    "Learnability",
    "LearningProgress",
    "LinearRamp",
    "PrioritizedLevelReplay",
    "ReturnGate",
    "Staged",
    "SuccessGated",
    "Teacher",
    "WilsonGate",
]
