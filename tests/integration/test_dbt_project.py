"""Rules of the dbt project, checked on its manifest."""

import json
import re
from collections.abc import Iterable
from itertools import combinations

import pytest
import sqlglot
import yaml
from jinja2.nativetypes import NativeEnvironment
from shop import PROJECT, Shop
from sqlglot import ErrorLevel, exp
from test_leaks import shop_with_everything

VARS = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]
#: Models without a key of their own, and why.
WITHOUT_KEY = {
    "int_customer_events": "rows of staging tables, whose keys are tested",
    "churn_label_audit": "a view of every customer on every day, too large to test",
    "stg_order_items": "lines of an order, which may be equal",
    "stg_rejected_rows": "raw rows that may be equal",
    "retention_policy_estimates": "retention_policy_values has the same rows",
    "recommendation_candidates": "retention_recommendations has the same rows",
    "packed_features": "model_features has the same rows",
    "churn_predictions": "churn_scores has the same rows",
}

#: What sqlglot cannot translate, and the macros that a project for such a warehouse would dispatch.
UNTRANSLATED = {
    "epoch_us": "microseconds, read_moment, now_utc",
    "hash": "fast_hash: differs between warehouses anyway",
    "list comprehension": "first_rows, json_lists, percentiles",
    "row": "row_of",
    "strlen": "read_text: the number of bytes, which DuckDB knows without counting characters",
}
OF_DIALECT = {
    "snowflake": {},
    # DuckDB's order of nulls, where no order key is null
    "bigquery": {"nulls last": "concatenated_arrays, and windows of churn_model_performance"},
    "redshift": {"to_json": "as_json, row_as_json: Redshift has no JSON"},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> dict:
    shop = Shop(tmp_path_factory.mktemp("compiled")).write(**shop_with_everything())
    shop.run("dbt", "compile", "--select", "resource_type:model")
    return json.loads((shop.home / "target" / "manifest.json").read_text())


def models(manifest: dict) -> dict[str, dict]:
    return {id: node for id, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed")}


def test_every_table_has_a_tested_key_or_a_reason(manifest):
    tested = {
        node["attached_node"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and node["test_metadata"]["name"] in ("primary_key", "unique_combination")
    }
    assert {node["name"] for id, node in models(manifest).items() if id not in tested} == WITHOUT_KEY.keys()


def reached(code: str) -> str:
    """The part of a macro or model that a full build reaches."""
    code = re.sub(r"{%-?\s*if is_incremental\(\).*?endif\s*-?%}", "", code, flags=re.DOTALL)
    return re.sub(r"{%-?\s*if [^%]*not is_incremental\(\)[^%]*%}{{ return.*", "", code, flags=re.DOTALL)


def vars_read(manifest: dict, code: str, overridden: Iterable[str]) -> set[str]:
    """Names of the vars that a model reads in a full build, in its own code and in macros that are not overridden."""
    names, seen, parts = set(), set(overridden), [code]
    while parts:
        part = reached(parts.pop())
        for prefix in re.findall(r"\bvar\([\"'](churn__\w+)", part):
            names |= {name for name in VARS if name == prefix or (prefix.endswith("_") and name.startswith(prefix))}
        for macro in set(re.findall(r"churn_radar\.(\w+)\(", part)) - seen:
            seen.add(macro)
            parts.append(manifest["macros"][f"macro.churn_radar.{macro}"]["macro_sql"])
    return names


def test_a_unit_test_sets_every_var_that_its_model_reads(manifest):
    left = {}
    for test in manifest["unit_tests"].values():
        overrides = test["overrides"] or {}
        macros = [name.removeprefix("churn_radar.") for name in overrides.get("macros", {})]
        code = manifest["nodes"][test["depends_on"]["nodes"][0]]["raw_code"]
        if names := vars_read(manifest, code, macros) - overrides.get("vars", {}).keys():
            left[f"{test['model']}.{test['name']}"] = sorted(names)
    assert left == {}


def test_parts_switch_off_with_everything_that_reads_them(manifest):
    """No node that stays reads one that is off, whichever parts are on."""
    conditions = {}
    for file in [*PROJECT.glob("models/**/*.yml"), *PROJECT.glob("python_models/*.yml"), *PROJECT.glob("seeds/*.yml")]:
        for kind, entries in yaml.safe_load(file.read_text()).items():
            if kind != "unit_tests":
                conditions |= {(kind, entry["name"]): entry.get("config", {}).get("enabled") for entry in entries}
    nodes = {
        id: node
        for kind in ("nodes", "exposures", "metrics", "semantic_models")
        for id, node in manifest[kind].items()
        if node["resource_type"] not in ("test", "operation")
    }
    parts = VARS["churn__enabled"]
    for enabled in [list(some) for n in range(len(parts) + 1) for some in combinations(parts, n)]:

        def is_on(node: dict, enabled: list = enabled) -> bool:
            condition = conditions.get((f"{node['resource_type']}s", node["name"]))
            return condition is None or NativeEnvironment().from_string(condition).render(
                var={"churn__enabled": enabled}.get
            )

        on = {id for id, node in nodes.items() if is_on(node)}
        broken = {id: off for id in on if (off := set(nodes[id]["depends_on"].get("nodes", [])) & (nodes.keys() - on))}
        assert broken == {}, enabled
        assert ("model.churn_radar.retention_actions" in on) == ({"scores", "retention"} <= set(enabled))


@pytest.mark.parametrize("dialect", OF_DIALECT)
def test_models_are_parsed_in_the_dialects_of_other_warehouses(manifest, dialect):
    """Databricks reads the SQL for Spark, which ``test_spark.py`` parses."""
    left = set()
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model" or node["language"] != "sql":
            continue
        generator = sqlglot.Dialect.get_or_raise(dialect).generator(unsupported_level=ErrorLevel.IGNORE)
        translated = generator.generate(sqlglot.parse_one(node["compiled_code"], read="duckdb"))
        left |= {re.findall("'(.+)'", message)[0].lower() for message in generator.unsupported_messages}
        left |= unknown(sqlglot.parse_one(translated, read=dialect))
    assert left == UNTRANSLATED.keys() | OF_DIALECT[dialect].keys()


def unknown(tree: exp.Expr) -> set[str]:
    """Functions and syntax that a dialect does not have."""
    functions = {function.name.lower() for function in tree.find_all(exp.Anonymous)}
    return functions | ({"list comprehension"} if tree.find(exp.Comprehension) else set())
