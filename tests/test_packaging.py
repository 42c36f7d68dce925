"""The wheel holds the package and nothing else; the Dockerfile's stages use what is there."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from qurate import __version__
from qurate.cli.app import app

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD = "python -m pip wheel --no-deps -w"


@pytest.mark.skipif(find_spec("setuptools") is None, reason="setuptools, the build back end, is not installed here")
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    command = [sys.executable, *shlex.split(BUILD)[1:], str(tmp_path / "dist"), "--no-build-isolation", "--no-index", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name == f"qurate-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        inside = {name for name in names if not name.startswith(f"qurate-{__version__}.dist-info/")}
        about = {name.rpartition("/")[2]: archive.read(name).decode() for name in names if name not in inside}
    there = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src/qurate").rglob("*.py")}
    assert inside == there | {"qurate/py.typed"}
    assert "qurate = qurate.cli:main" in about["entry_points.txt"] and "LICENSE" in about
    required = set(re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", about["METADATA"], re.MULTILINE))
    assert required == {re.split(r"[><=;\[ ]", one)[0] for one in PROJECT["dependencies"]}


def test_the_readmes_name_the_commands_of_the_wheel() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert f"{BUILD} dist ." in text and "pip install dist/qurate-" in text


Stage = list[tuple[str, str]]


def stages() -> dict[str, Stage]:
    """Name of each stage -> its instructions, the first of which is FROM."""
    out: dict[str, Stage] = {}
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if not line or word.startswith("#"):
            continue
        if word == "FROM":
            current = out.setdefault(rest.partition(" AS ")[2], [])
        current.append((word, rest))
    return out


def test_the_first_stage_copies_what_is_there_and_builds_the_wheel() -> None:
    build = stages()["build"]
    image = build[0][1].partition(" ")[0]
    assert SpecifierSet(PROJECT["requires-python"]).contains(image.partition(":")[2].removesuffix("-slim"))
    copied = [path for word, rest in build if word == "COPY" for path in rest.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*" and copied
    for path in copied:
        assert (ROOT / path).exists() and f"!{path}" in ignored, path
    assert not any(fnmatch("src/qurate/client.py", pattern) for pattern in ignored[1:])
    runs = [rest for word, rest in build if word == "RUN"]
    assert runs[0] == f"{BUILD} /wheels ." and "/wheels/*.whl" in runs[-1]
    assert all("-c constraints.txt" in run for run in runs if " pip install" in run)
    needed = [PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "constraints.txt", "src"]
    assert set(needed) == set(copied)


def test_the_last_stage_serves_as_nobody_special_from_two_volumes() -> None:
    serve = stages()["serve"]
    words = [word for word, _ in serve]
    given = dict(serve)
    assert words[0] == "FROM" and words[-1] == "ENTRYPOINT" and given["USER"] == "qurate"
    assert "useradd --uid 10001" in given["RUN"] and words.index("RUN") < words.index("USER") < words.index("ENTRYPOINT")
    assert given["COPY"] == "--from=build /opt/qurate /opt/qurate" and given["ENV"].startswith("PATH=/opt/qurate/bin:")
    program, command, model, *options = json.loads(given["ENTRYPOINT"])
    assert program == "qurate" and [model, options[1]] == json.loads(given["VOLUME"]) and "install -d -o qurate" in given["RUN"]
    (serve_command,) = [one for one in app.registered_commands if one.callback is not None and one.callback.__name__ == command]
    assert serve_command.callback is not None and {"model", options[0].removeprefix("--")} <= set(serve_command.callback.__annotations__)
    health = json.loads(given["HEALTHCHECK"].removeprefix("CMD "))
    assert health[:2] == ["python", "-c"] and "/readyz" in health[2]
    compile(health[2], "HEALTHCHECK", "exec")


def test_no_index_and_no_registry_is_named() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"https?://(?!127\.0\.0\.1)|--index|--extra-index|--find-links", text) == []
    assert all("/" not in rest.split(" ")[0] for stage in stages().values() for word, rest in stage if word == "FROM")
