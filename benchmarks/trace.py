"""Prints the functions of a package that `A2C(env).learn(20)` calls, by module, in the order of their first calls.

Run: python benchmarks/trace.py [--package rl_rms.agents]

The output omits comprehensions and lambdas. From Python 3.11 on, the output also omits nested functions.
"""

import argparse
import sys
from types import FrameType
from typing import Any

import gymnasium as gym

from rl_rms.agents import A2C


def trace(package: str) -> dict[str, list[str]]:
    """Return the called functions of a package, by module."""
    calls: dict[str, list[str]] = {}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        module, code = frame.f_globals.get("__name__", ""), frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        if event == "call" and f"{module}.".startswith(f"{package}.") and "<" not in name:
            functions = calls.setdefault(module, [])
            if name not in functions:
                functions.append(name)

    env = gym.make("CartPole-v1")
    sys.setprofile(profile)
    try:
        A2C(env, seed=0).learn(20)  # with other seeds, an episode may end, which calls more functions
    finally:
        sys.setprofile(None)
    return calls


def main() -> None:
    """Print each module with its functions, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="rl_rms.agents", help="package whose functions are printed")
    calls = trace(parser.parse_args().package)
    for module, functions in calls.items():
        print(f"{module}: {', '.join(functions)}")
    print(f"{len(calls)} modules, {sum(map(len, calls.values()))} functions")


if __name__ == "__main__":
    main()
