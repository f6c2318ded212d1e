"""What the tests share: peers that a machine may lack, and frames."""

import os
import shutil
from typing import Callable

import pytest

pytest_plugins = ["pytester"]

Require = Callable[[str], str]


@pytest.fixture
def require() -> Require:
    """Returns the path of a program. Where it is missing, the test is skipped; with
    BUSCTL_REQUIRE_PEERS=1, as in continuous integration, it fails."""

    def find(program: str) -> str:
        path = os.environ.get("BUSCTL") if program == "busctl" else None
        path = path or shutil.which(program)
        if path is None and os.environ.get("BUSCTL_REQUIRE_PEERS") == "1":
            pytest.fail(f"{program} not found, and BUSCTL_REQUIRE_PEERS=1")
        if path is None:
            pytest.skip(f"{program} not found")
        return path

    return find


@pytest.fixture
def busctl(require: Require) -> str:
    """The program busctl."""
    return require("busctl")
