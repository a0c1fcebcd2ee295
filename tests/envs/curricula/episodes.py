"""Episodes of given tasks."""

TASKS = [{"level": float(one)} for one in range(4)]


def begin(curriculum, task, drawn, env_index=0):
    """Begin an episode with a given task instead of a drawn task."""
    curriculum.load_state_dict({**curriculum.state_dict(), "begun": [[env_index, task, drawn]]})


def force(curriculum, number, ret=0.0, success=None, env_index=0):
    """End an episode of a given task."""
    begin(curriculum, TASKS[number], number, env_index)
    curriculum.record(ret, 10, env_index, success)
