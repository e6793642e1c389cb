"""Practice hosts find packages where this machine finds them."""

from pathlib import Path

import pytest

from rackhand.lab import environment


@pytest.fixture
def _no_index_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL", "UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


@pytest.mark.usefixtures("_no_index_settings")
def test_the_configuration_of_pip_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_text(
        f"[global]\nfind-links =\n  {tmp_path}\n  https://links.example\nindex-url = https://index.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    found = environment.uv_environment()
    assert found["UV_FIND_LINKS"] == str(tmp_path)
    assert found["UV_DEFAULT_INDEX"] == "https://index.example/simple"


@pytest.mark.usefixtures("_no_index_settings")
def test_wheel_directories_outside_are_offered_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", f"{wheels} https://index.example/links /no/such/directory")
    monkeypatch.setenv("UV_FIND_LINKS", f"file://{wheels}")
    found = environment.uv_environment()
    assert found["UV_FIND_LINKS"] == str(wheels)
    assert found["UV_TORCH_BACKEND"] == "cpu"
    assert "UV_DEFAULT_INDEX" not in found


@pytest.mark.usefixtures("_no_index_settings")
def test_a_torch_for_cpu_in_a_wheel_directory_needs_no_other_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://index.example/simple")
    found = environment.uv_environment()
    assert "UV_TORCH_BACKEND" not in found
    assert found["UV_DEFAULT_INDEX"] == "https://index.example/simple"
