"""The number of Hypothesis examples by profile: see tests/conftest.py."""

from hypothesis import settings


def fewer(share: int) -> settings:
    """Divide the number of examples of the profile by ``share``, for a property with slow examples."""
    return settings(max_examples=settings.default.max_examples // share)
