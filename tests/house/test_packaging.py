"""The package as pyproject.toml describes it is the package that the folders hold."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"rtrl": "rtrl", "rtrl.kernels": "kernels", "rtrl.tasks": "tasks"}


def _settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


@pytest.mark.core
def test_packages_match_the_folders():
    """A new subpackage must be added to `packages`, or the wheel lacks it."""
    found = set()
    for package, folder in MAPPED.items():
        for directory, subfolders, files in os.walk(ROOT / folder):  # does not follow symlinks
            subfolders[:] = [name for name in subfolders if name != "__pycache__"]
            inner = Path(directory).relative_to(ROOT / folder).parts
            if "__init__.py" in files:
                found.add(".".join((package, *inner)))
            else:
                assert not any(name.endswith(".py") for name in files), f"no __init__: {directory}"
    settings = _settings()
    assert sorted(settings["packages"]) == sorted(found)
    assert settings["package-dir"] == {
        package: "/".join((MAPPED[".".join(package.split(".")[:2])], *package.split(".")[2:]))
        for package in settings["packages"]
        if package.startswith(("rtrl.kernels", "rtrl.tasks"))
    }


@pytest.mark.parametrize("name", ["kernels", "tasks"])
def test_links_are_relative(name):
    link = ROOT / "rtrl" / name
    assert link.is_symlink() and os.readlink(link) == f"../{name}"
    assert (link / "__init__.py").samefile(ROOT / name / "__init__.py")


def test_a_wheel_imports_from_a_clean_directory(tmp_path):
    """Built and unpacked outside the checkout, so that nothing can come from the checkout."""
    source, site, elsewhere = tmp_path / "source", tmp_path / "site", tmp_path / "elsewhere"
    for folder in ("rtrl", "kernels", "tasks"):
        shutil.copytree(
            ROOT / folder,
            source / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    _run([*pip, "--no-deps", "--no-build-isolation", "-w", tmp_path, source], tmp_path)
    (wheel,) = tmp_path.glob("rtrl-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)
    sources = {
        f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for package, folder in MAPPED.items()
        for path in (ROOT / folder).rglob("*.py")
        if not {"kernels", "tasks"} & set(path.relative_to(ROOT / folder).parts)
    }
    installed = {name for name in names if ".dist-info/" not in name}
    assert installed == sources | {"rtrl/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)

    elsewhere.mkdir()
    program = "import rtrl, rtrl.kernels, rtrl.tasks as t; print(rtrl.__file__, t.__file__)"
    assert _run([sys.executable, "-c", program], elsewhere, PYTHONPATH=str(site)).split() == [
        str(site / "rtrl" / "__init__.py"),
        str(site / "rtrl" / "tasks" / "__init__.py"),
    ]


def _run(command: list, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
