import subprocess

import pytest
from servers import postgres_server, redis, redis_server
from shop import Shop

__all__ = ["postgres_server", "redis", "redis_server"]

pytest.register_assert_rewrite("warehouses")


@pytest.fixture
def shop(tmp_path) -> Shop:
    return Shop(tmp_path / "home")


@pytest.fixture(scope="session")
def real_shop(tmp_path_factory) -> tuple[Shop, list[subprocess.CompletedProcess]]:
    """Real purchases, from raw tables to the online store, by the commands of the README."""
    shop = Shop(tmp_path_factory.mktemp("real") / "home")
    shop.run("churn-radar", "load-example", "complete-journey")
    build = shop.run("dbt", "--no-partial-parse", "build")  # which says what dbt warns of while it parses
    apply = shop.run("feast", "-c", "feature_repo", "apply")
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    materialize = shop.run("feast", "-c", "feature_repo", "materialize", as_of, as_of)
    return shop, [build, apply, materialize]
