from pathlib import Path

import duckdb
import pytest

from inference.errors import ChurnRadarError
from inference.warehouse import extensions


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package with an extension for the installed version of DuckDB and one for another."""
    versions = tmp_path / "site" / "duckdb_extension_sample" / "extensions"
    for version in (f"v{duckdb.__version__}", "v0.0.1"):
        (versions / version).mkdir(parents=True)
        (versions / version / "sample.duckdb_extension").touch()
    (versions.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    return versions / f"v{duckdb.__version__}" / "sample.duckdb_extension"


def test_extensions_are_linked_where_duckdb_looks_for_them(package, churn_home):
    for _ in range(2):
        folder = Path(extensions.extension_settings(churn_home)["extension_directory"])
        link = next(folder.rglob("sample.duckdb_extension"))
        assert link.resolve() == package.resolve()
    platform = duckdb.execute("pragma platform").fetchone()[0]
    assert link.relative_to(folder).parts == (f"v{duckdb.__version__}", platform, "sample.duckdb_extension")


def test_a_link_to_a_package_that_moved_is_replaced(package, churn_home):
    folder = Path(extensions.extension_settings(churn_home)["extension_directory"])
    link = next(folder.rglob("sample.duckdb_extension"))
    link.unlink()
    link.symlink_to("/nowhere")
    extensions.extension_settings(churn_home)
    assert link.resolve() == package.resolve()


def test_without_packages_duckdb_keeps_its_own_folder(monkeypatch, churn_home):
    monkeypatch.setattr(extensions.pkgutil, "iter_modules", lambda: iter(()))
    assert extensions.extension_settings(churn_home) == {}
    with pytest.raises(ChurnRadarError, match=r"type mysql .* pip install duckdb-extension-mysql-scanner=="):
        extensions.require_scanner("mysql")
    extensions.require_scanner(None)
    extensions.require_scanner("duckdb")
