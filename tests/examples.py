"""How many examples Hypothesis tries, by its profile: see tests/conftest.py."""

from hypothesis import settings


def fewer(share: int) -> settings:
    """So many times fewer than the profile says, for a property whose examples take long."""
    return settings(max_examples=settings.default.max_examples // share)
