"""Packaged run configurations, one YAML per run; ``rl-rms train NAME`` finds them by name."""
