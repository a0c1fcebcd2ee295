"""Studies: one file per claim of the theory, each of which runs it, measures it and draws it."""

from importlib import import_module

from rl_rms.studies.frame import Study

# In the order in which the source chapter makes the claims.
STUDIES = {
    "saddle": "steps to escape a saddle beside SGD, momentum and Adam",
    "two_player": "distance to the equilibrium of a game, by turns, momentum and optimism",
}


def load(name: str) -> Study:
    """A study by its name, one of `STUDIES`."""
    study: Study = import_module(f"rl_rms.studies.{name}").STUDY
    return study
