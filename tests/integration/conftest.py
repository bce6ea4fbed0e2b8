import subprocess

import pytest
from shop import Shop


@pytest.fixture
def shop(tmp_path) -> Shop:
    return Shop(tmp_path / "home")


@pytest.fixture(scope="session")
def real_shop(tmp_path_factory) -> tuple[Shop, list[subprocess.CompletedProcess]]:
    """Real purchases, from raw tables to the online store, by the commands of the README."""
    shop = Shop(tmp_path_factory.mktemp("real") / "home")
    shop.run("churn-radar", "load-example", "complete-journey")
    build = shop.run("dbt", "build")
    apply = shop.run("feast", "-c", "feature_repo", "apply")
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    materialize = shop.run("feast", "-c", "feature_repo", "materialize", as_of, as_of)
    return shop, [build, apply, materialize]
