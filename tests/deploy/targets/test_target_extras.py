"""Optional packages: missing, of another version, or there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from nas.deploy.targets import extras
from nas.deploy.targets.extras import Extra
from nas.errors import UserError

EXTRA = Extra(name="openvino", pins={"numpy": ("1.0", "99"), "tool": ("2.7", "3")})


def installed(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    def find(package: str) -> str:
        if package == "tool" and version is None:
            raise PackageNotFoundError
        return version or "2.0" if package == "tool" else "2.0"

    monkeypatch.setattr(extras, "version", find)


@pytest.mark.parametrize("version", ["2.7", "2.7.0", "2.10", "2.99.1-build+cpu"])
def test_tested_versions_are_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    installed(monkeypatch, version)
    assert EXTRA.missing() == ""
    EXTRA.check("tool")


@pytest.mark.parametrize("version", ["2.6.9", "1.10", "3", "3.0.0", "10.1", "unknown"])
def test_other_versions_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    installed(monkeypatch, version)
    wanted = f"tool must be at least 2.7 and below 3, {version} is installed; pip install 'nas[openvino]'"
    assert EXTRA.missing() == wanted
    with pytest.raises(UserError, match=r"target x: tool must be at least 2\.7"):
        EXTRA.check("x")


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    assert EXTRA.missing() == "tool is not installed; pip install 'nas[openvino]'"
    assert EXTRA.versions() == {"numpy": "2.0", "tool": ""}


def test_a_package_that_is_there_and_broken_is_told() -> None:
    extra = Extra(name="x", pins={"numpy": ("1.0", "99")})
    with pytest.raises(UserError, match=r"numpy\.no_such_module cannot be imported.*pip install 'nas\[x\]'"):
        extra.load("numpy.no_such_module", target="x")
