"""The YAML forms of curricula, and how they are read."""

from typing import Any

from rl_rms.envs.checks import choose
from rl_rms.envs.curricula.base import Curriculum
from rl_rms.envs.curricula.mixture import ALPGMM
from rl_rms.envs.curricula.progress import Learnability, LearningProgress
from rl_rms.envs.curricula.ramp import LinearRamp
from rl_rms.envs.curricula.ranges import DomainRandomization, ExpandingBox
from rl_rms.envs.curricula.replay import PrioritizedLevelReplay
from rl_rms.envs.curricula.stages import Staged, SuccessGated
from rl_rms.envs.curricula.teacher import Teacher

CURRICULA: dict[str, type[Any]] = {
    one.name: one
    for one in (
        LinearRamp,
        Staged,
        SuccessGated,
        ExpandingBox,
        DomainRandomization,
        LearningProgress,
        Learnability,
        PrioritizedLevelReplay,
        ALPGMM,
        Teacher,
    )
}
"""The curricula by their names in YAML."""
_EXAMPLE = "{staged: {stages: [{length: 1.0}, {length: 0.5}], threshold: 400}}"


def read_curriculum(config: Any) -> Curriculum:
    """Read the YAML form; a curriculum is returned as it is.

    Raises:
        ValueError: If it is no curriculum, or has a wrong, missing or impossible argument.
    """
    if isinstance(config, Curriculum):
        return config
    name, given = choose("curriculum", CURRICULA, config, _EXAMPLE)
    curriculum: Curriculum = CURRICULA[name](**given)
    return curriculum
