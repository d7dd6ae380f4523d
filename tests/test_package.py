"""The library as a package: it builds without a warning, a wheel holds the library and nothing
else, and a source distribution brings tests that need nothing beside it.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("sdelib", "tests", "tools")


def run(folder, *command):
    """What a command in that folder says, with the library that lies there."""
    alone = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
    python = [sys.executable, *command]
    done = subprocess.run(python, cwd=folder, env=alone, stdout=-1, stderr=-2, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel, made from an unpacked source distribution, made from a copy of the repository; where
    that was unpacked, and what the builder said.
    """
    copy, made = (tmp_path_factory.mktemp(name) for name in ("copy", "made"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
        elif path.name in FOLDERS:
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_{}({!r})"
    said = run(copy, "-c", build.format("sdist", str(made)))
    with tarfile.open(next(made.glob("*.tar.gz")), encoding="utf-8") as archive:
        archive.extractall(made, filter="data")
    unpacked = next(path for path in made.iterdir() if path.is_dir())
    said += run(unpacked, "-c", build.format("wheel", str(made)))
    return next(made.glob("*.whl")), unpacked, said


def test_it_builds_without_a_warning(built):
    said = built[2].splitlines()
    assert [line for line in said if "warn" in line.lower() or "****" in line] == []


def test_a_wheel_holds_the_library_and_nothing_else(built):
    held = {name for name in zipfile.ZipFile(built[0]).namelist() if ".dist-info/" not in name}
    library = [path for path in (ROOT / "sdelib").rglob("*") if "__pycache__" not in path.parts]
    assert held == {path.relative_to(ROOT).as_posix() for path in library if path.is_file()}


def test_a_source_distribution_brings_tests_that_need_nothing_else(built):
    collect = ["--collect-only", "--assert=plain", "-q", "-p", "no:cacheprovider"]
    said = run(built[1], "-m", "pytest", *collect)
    collected = set(re.findall(r"^tests/test_(\w+)\.py::", said, re.MULTILINE))
    modules = {path.stem for path in (ROOT / "sdelib").glob("[!_]*.py")}
    assert modules - {"steps"} <= collected, "each module's tests; of steps they are the samplers'"
