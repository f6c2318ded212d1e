"""The Python programs of the guide and of the README run as they stand there."""

import re
import runpy
from pathlib import Path

import pytest

from shmlan.pytest_plugin import Lan

ROOT = Path(__file__).parents[2]


def programs() -> list[object]:
    found: list[object] = []
    for document in ("GUIDE.md", "python/README.md"):
        texts = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
        assert texts, f"{document} has programs"
        found += [pytest.param(text, id=f"{document}-{n}") for n, text in enumerate(texts, 1)]
    return found


@pytest.mark.parametrize("program", programs())
def test_a_program_runs(
    program: str,
    lan: Lan,
    busctl: str,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside a host with the address that all of them name, in a folder with the bus `lan`."""
    lan.host("10.0.0.1/24", "fd00::1/64")
    if "def test_" in program:
        pytester.makepyfile(program)
        result = pytester.runpytest_subprocess()
        outcomes = result.parseoutcomes()
        assert outcomes.get("passed", 0) > 0 and set(outcomes) == {"passed"}
        return
    monkeypatch.chdir(lan.folder)
    path = lan.folder / "program.py"
    path.write_text(program)
    runpy.run_path(str(path), run_name="__main__")
