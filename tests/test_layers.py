"""The import rules: each stage imports only the stages before it, and inside a stage each file only the files before it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--config",
            str(config),
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_each_stage_imports_only_the_stages_before_it() -> None:
    contracts = (ROOT / "pyproject.toml").read_text().count("[[tool.importlinter.contracts]]")
    result = lint_imports(ROOT / "pyproject.toml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{contracts} kept, 0 broken" in result.stdout and contracts > 10


def test_the_rule_can_fail(tmp_path: Path) -> None:
    """Upside down, the layers must be reported as broken: otherwise the test above proves nothing."""
    config = tmp_path / "upside_down.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "qurate"\n'
        '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\n'
        'layers = ["qurate.errors", "qurate.settings"]\n'
    )
    result = lint_imports(config)
    assert result.returncode == 1
    assert "qurate.settings -> qurate.errors" in result.stdout
