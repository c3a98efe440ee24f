"""What is handed out: the source distribution, the wheel that is built from it, and both in use by a stranger.

Nothing is downloaded: dependencies are those of this environment, put on the path of a new one.
"""

import email
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
LEFT_OUT = (".git", ".venv", "out", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
PACKAGES = [path for path in sys.path if path.endswith("site-packages")]
OFFLINE = dict.fromkeys(("PIP_NO_INDEX", "PIP_NO_INPUT", "PIP_DISABLE_PIP_VERSION_CHECK", "HF_HUB_OFFLINE"), "1")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, f'build_{sys.argv[1]}')(sys.argv[2])"


def run(*command: object, cwd: Path) -> str:
    """What the command prints. Its environment does not lead to this checkout, and it cannot wait for anything."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    settings = {"env": kept | OFFLINE, "stdin": subprocess.DEVNULL, "timeout": 200}
    result = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, **settings)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The unpacked source distribution, and the wheel built from it; made once for all processes of a test run."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "distribution"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not [*folder.glob("*.whl")]:
            shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*LEFT_OUT))
            run(sys.executable, "-c", BUILD, "sdist", folder, cwd=folder / "copy")
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder)
            (folder / archive.name.removesuffix(".tar.gz")).rename(folder / "sdist")
            run(sys.executable, "-c", BUILD, "wheel", folder, cwd=folder / "sdist")
    return folder / "sdist", next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def wheel(built):
    """Its files' names, and its metadata."""
    with zipfile.ZipFile(built[1]) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        return names, email.message_from_bytes(archive.read(metadata))


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


def test_the_wheel_holds_the_package_its_pipelines_and_checkpoints_and_nothing_else(wheel):
    names = {name for name in wheel[0] if not name.split("/")[0].endswith(".dist-info")}
    expected = {"": "guidance", "pipelines/": "pipelines", "assets/": "assets"}
    assert names == {
        f"diffusion_guidance/{prefix}{name}" for prefix, folder in expected.items() for name in files(ROOT / folder)
    }
    assert "diffusion_guidance/py.typed" in names


def test_the_source_distribution_holds_what_its_tests_read(built):
    held = files(built[0])
    for folder in ("assets", "docs", "guidance", "pipelines", "scripts", "tests"):
        assert {f"{folder}/{name}" for name in files(ROOT / folder)} <= held
    assert {"README.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml", ".ci/run"} <= held


def test_the_description_has_links_that_work_on_a_package_index(wheel):
    names, metadata = wheel
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["License-Expression"] == "Apache-2.0" and any(name.endswith("/LICENSE") for name in names)
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert all("https://" in url for url in metadata.get_all("Project-URL"))
    text = metadata.get_payload()
    assert "diffusion-guidance detect" in text and "https://arxiv.org/abs/2508.03442" in text
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]*)\)", text))


def test_links_lead_to_the_repository_once_there_is_one(built):
    code = "import setup; print(setup.described(open('README.md').read(), 'https://example.org/some/where'))"
    text = run(sys.executable, "-c", code, cwd=built[0])
    assert "![48 emoji drawn from their names](https://example.org/some/where/raw/main/docs/emoji-sheet.png)" in text
    assert "[docs/raag.md](https://example.org/some/where/blob/main/docs/raag.md)" in text
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]*)\)", text))


class Environment:
    """A new environment at `folder`, which also sees the packages that are installed here."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=False)
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.packages = next((folder / "lib").glob("python*/site-packages"))
        (self.packages / "installed_here.pth").write_text("\n".join(PACKAGES))

    def pip(self, *arguments: object) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, "--quiet", *arguments, cwd=self.folder)

    def install(self, wheel: Path) -> None:
        self.pip("install", "--no-deps", "--no-index", "--no-compile", "--ignore-installed", wheel)

    def imported(self, name: str) -> str:
        """The file that is imported as `name` in an empty folder."""
        return run(self.python, "-c", f"import {name}; print({name}.__file__)", cwd=empty(self.folder)).strip()


def empty(folder: Path) -> Path:
    made = folder / "empty"
    made.mkdir(exist_ok=True)
    return made


def other(folder: Path) -> Path:
    """A wheel with the name and the top-level package of PyPI's `guidance`."""
    path = folder / "guidance-0.3.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("guidance/__init__.py", "from . import models\n")
        archive.writestr("guidance/models.py", "")
        info = "guidance-0.3.1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: guidance\nVersion: 0.3.1\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        listed = [
            "guidance/__init__.py",
            "guidance/models.py",
            *(f"{info}/{n}" for n in ("METADATA", "WHEEL", "RECORD")),
        ]
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in listed))
    return path


@pytest.mark.parametrize("ours_first", [True, False])
def test_it_lives_next_to_the_other_guidance(ours_first, built, tmp_path):
    new, wheels = Environment(tmp_path), {"diffusion_guidance": built[1], "guidance": other(tmp_path)}
    order = list(wheels) if ours_first else list(wheels)[::-1]
    for name in order:
        new.install(wheels[name])
    for name in order:
        assert new.imported(name) == str(new.packages / name / "__init__.py")
    first, kept = order
    new.pip("uninstall", "--yes", first.replace("_", "-"))
    assert not (new.packages / first).exists()
    assert new.imported(kept) == str(new.packages / kept / "__init__.py")


@pytest.fixture(scope="module")
def stranger(built, tmp_path_factory):
    """An environment with the wheel."""
    new = Environment(tmp_path_factory.mktemp("stranger"))
    new.install(built[1])
    return new


def test_the_command_works_in_an_empty_folder(stranger):
    folder, command = empty(stranger.folder), stranger.folder / "bin" / "diffusion-guidance"
    assert "  generate " in run(command, "--help", cwd=folder)
    calls = (["describe", "assets/digits"], ["generate", "assets/digits", "--steps", "2", "--classes", "3"])
    code = f"from diffusion_guidance.cli.command import main; assert [main(call) for call in {calls}] == [0, 0]"
    printed = run(stranger.python, "-c", code, cwd=folder)
    assert "ClassConditionalPipeline" in printed and "1 images drawn" in printed
    assert (folder / "out/generate/000000.png").stat().st_size > 50


def test_tests_of_the_source_distribution_are_collected_and_run(built, stranger):
    command = (stranger.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/core", "-k", "test_combine")
    assert re.search(r"[1-9]\d* passed, [1-9]\d+ deselected", run(*command, cwd=built[0]))
