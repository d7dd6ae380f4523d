"""`pyproject.toml`, `constraints.txt` and `environment.yml` describe one environment, and the tests
run in it.
"""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]
LOCKED = {canonicalize_name(entry.name): next(iter(entry.specifier)).version for entry in LOCK}


def wanted() -> list[Requirement]:
    """What the library and the book ask for directly."""
    return [
        Requirement(line)
        for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["book"]
    ]


def test_lock_states_exact_versions_once():
    assert all(str(entry.specifier).startswith("==") for entry in LOCK)
    assert len(LOCKED) == len(LOCK)


def test_lock_honours_the_project():
    for requirement in wanted():
        assert LOCKED[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_project_states_lower_bounds():
    """Readers of one notebook, on Colab for example, keep the versions they have."""
    for line in PROJECT["dependencies"]:
        assert [bound.operator for bound in Requirement(line).specifier] == [">="], line


def test_lock_covers_everything_needed_at_the_installed_version():
    """Walk what the project needs, and what that needs. Below torch the answer depends on the
    machine, so stop there.
    """
    queue, seen = wanted(), set()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        assert name in LOCKED, f"{requirement} is missing from constraints.txt"
        assert Version(version(name)).public == LOCKED[name], (
            f"{name} is installed at {version(name)}"
        )
        if name == "torch":
            continue
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ["", *requirement.extras]
            ):
                queue.append(needed)


def test_whatever_else_of_the_lock_is_installed_has_its_version():
    for name, locked in LOCKED.items():
        try:
            assert Version(version(name)).public == locked, name
        except PackageNotFoundError:
            continue  # another platform's


def test_conda_environment_is_python_and_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    packages = {requirement.name: requirement.specifier for requirement in map(Requirement, conda)}
    assert packages == {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}
    assert pip == {"pip": ["-c constraints.txt", "-e .[book]"]}
