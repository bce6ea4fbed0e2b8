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

STAGING = ("campaign_touches", "customers", "events", "order_items", "orders", "reviews", "support_tickets")
ALL_RAW = "one table about all raw tables"
OWN_ORDERS = "the newest order of the shop's own table, which staging joins with those that the service accepted"
#: The rules of dbt-project-evaluator, by the names of its models, and what breaks them, and why. ``WITHOUT_KEY`` has
#: its rule of tested primary keys; a shop sets the freshness of its sources.
EXCEPTIONS = {
    "direct_join_to_source": {
        **{f"stg_{table}": "stg_repeated_keys only says which rows need ranking" for table in STAGING},
        **dict.fromkeys(["stg_rejected_rows", "stg_repeated_keys"], "int_raw_tables only checks the sources before"),
        **dict.fromkeys(["int_order_changes", "int_snapshot_dates"], OWN_ORDERS),
    },
    "marts_or_intermediate_dependent_on_source": {
        "int_raw_tables": "checks the sources before anything reads them",
        **dict.fromkeys(["int_order_changes", "int_snapshot_dates"], OWN_ORDERS),
    },
    "multiple_sources_joined": dict.fromkeys(["int_raw_tables", "stg_rejected_rows", "stg_repeated_keys"], ALL_RAW),
    "source_fanout": dict.fromkeys(STAGING, "staged once; the others check raw rows"),
    "staging_dependent_on_marts_or_intermediate": dict.fromkeys(
        ["stg_rejected_rows", "stg_repeated_keys"], "int_raw_tables only checks the sources before"
    ),
    "staging_dependent_on_staging": {f"stg_{table}": "stg_repeated_keys has no rows of its own" for table in STAGING},
    "model_fanout": {
        "int_customer_orders": "orders are what the shop has",
        "int_snapshot_dates": "each reads the newest date",
        "churn_scores": "actions, alerts and monitoring are read by different people",
    },
    "rejoining_of_upstream_concepts": {
        "churn_alerts": "churn_score_drift has no customers",
        "int_customer_attributes": "int_attribute_changes has what was overwritten",
        "int_customer_orders": "int_order_changes has what was overwritten",
        "int_reviews": "int_review_arrivals has when a review came first",
        "packed_features": "customer_features is packed with the others",
        "recommendation_candidates": "the newest date, which int_product_purchases does not have",
        "searchable_texts": "text_quotes has what a Python model added to int_texts",
        "text_features": "rows of dropped snapshots are deleted by its hook",
    },
    "root_models": {},
    "too_many_joins": {
        **dict.fromkeys(["int_raw_tables", "stg_rejected_rows", "stg_repeated_keys"], ALL_RAW),
        "int_scored_values": "all features of a customer",
        "online_histories": "everything known of a customer",
        "packed_features": "all features of a customer",
    },
    "unused_sources": {},
    "undocumented": {},
    "chained_views": {},
    "exposure_parents_materializations": {
        "churn_score_lineage": "read for one score at a time",
        "latest_scores": "reads one table",
        "model_features": "a contract on packed_features, exported as Parquet",
        "online_scores": "exported as Parquet",
        "online_shop": "one row, exported as Parquet",
    },
    "exposures_dependent_on_private_models": dict.fromkeys(
        ["model_features", "online_histories", "online_scores", "online_shop", "searchable_texts", "sequence_features"],
        "read by programs of ours only",
    ),
    "public_models_without_contracts": {"churn_model": "dbt has no contracts of Python models"},
    "model_naming_conventions": {},
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
    "bigquery": {"nulls last": "ordered_array, and windows of churn_model_performance"},
    "redshift": {"to_json": "as_json, row_as_json: Redshift has no JSON"},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    """The compiled project, parsed for this home."""
    shop = Shop(tmp_path_factory.mktemp("compiled")).write(**shop_with_everything())
    strict = ("--warn-error-options", '{"error": ["InvalidMacroAnnotation"]}')  # macros.yml differs from a macro
    shop.run("dbt", "--no-partial-parse", *strict, "compile", "--select", "resource_type:model")
    return shop


@pytest.fixture(scope="module")
def manifest(shop) -> dict:
    return json.loads((shop.home / "target" / "manifest.json").read_text())


def test_a_home_that_is_given_what_dbt_parsed_for_another_has_the_same_manifest(shop, manifest, tmp_path):
    """Other tests do not parse the project again; see ``parsing.py``."""
    other = Shop(tmp_path / "home")
    assert "Unable to do partial parsing" not in other.run("dbt", "parse").stdout
    given = (other.home / "target" / "manifest.json").read_text().replace(str(other.home), str(shop.home))
    assert parsed_part(json.loads(given)) == parsed_part(manifest)


def parsed_part(manifest: dict) -> dict:
    """A manifest without metadata and times, and without what compiling adds."""
    kinds = ("nodes", "sources", "macros", "exposures", "metrics", "semantic_models", "unit_tests", "selectors")
    added = re.compile("created_at|compiled.*|extra_ctes.*|build_path|depends_on")
    entries = {
        kind: {id: {k: v for k, v in node.items() if not added.fullmatch(k)} for id, node in manifest[kind].items()}
        for kind in kinds
    }
    return entries | {kind: manifest[kind] for kind in ("parent_map", "child_map", "disabled", "groups", "docs")}


def models(manifest: dict) -> dict[str, dict]:
    return {id: node for id, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed")}


def test_compiled_sql_has_no_runs_of_blank_lines(manifest):
    sql = [node for node in models(manifest).values() if node.get("language") == "sql"]
    compiled = {node["name"]: node["compiled_code"] for node in sql}
    assert [name for name, code in compiled.items() if re.search(r"\n[ \t]*\n[ \t]*\n", code.strip())] == []


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


def layer(node: dict) -> str:
    """Folder of a model below ``models``; ``python_models`` for those there."""
    return node["original_file_path"].removeprefix("models/").split("/")[0]


def test_the_rules_of_dbt_project_evaluator_hold_or_have_a_reason(manifest):
    nodes = {id: node for id, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    sources, exposures = manifest["sources"], manifest["exposures"].values()
    children = {id: [c for c in manifest["child_map"][id] if c in nodes] for id in (*nodes, *sources)}
    parents = {id: set(node["depends_on"]["nodes"]) for id, node in nodes.items()}
    views = {id for id, node in nodes.items() if node["config"]["materialized"] == "view"}
    prefixes = {"staging": ("stg_",), "intermediate": ("int_",)}

    def of_layer(ids: Iterable[str], *layers: str) -> bool:
        return any(id in nodes and layer(nodes[id]) in layers for id in ids)

    def n_views(id: str) -> int:
        return 1 + max((n_views(parent) for parent in parents[id] & views), default=0)

    def undocumented(node: dict) -> bool:
        return not node["description"] or any(not column["description"] for column in node["columns"].values())

    of_models = {
        "direct_join_to_source": lambda id, node: parents[id] & sources.keys() and parents[id] & nodes.keys(),
        "marts_or_intermediate_dependent_on_source": lambda id, node: (
            layer(node) != "staging" and parents[id] & sources.keys()
        ),
        "multiple_sources_joined": lambda id, node: len(parents[id] & sources.keys()) > 1,
        "staging_dependent_on_marts_or_intermediate": lambda id, node: (
            layer(node) == "staging" and of_layer(parents[id], "intermediate", "features", "labels", "marts")
        ),
        "staging_dependent_on_staging": lambda id, node: layer(node) == "staging" and of_layer(parents[id], "staging"),
        "model_fanout": lambda id, node: sum(not children[child] for child in children[id]) > 3,
        "rejoining_of_upstream_concepts": lambda id, node: any(
            len(children[parent]) == 1 and parents[parent] & parents[id] & nodes.keys()
            for parent in parents[id] & nodes.keys()
        ),
        "root_models": lambda id, node: not parents[id],
        "too_many_joins": lambda id, node: len(parents[id]) >= 7,
        "chained_views": lambda id, node: id in views and n_views(id) >= 4,
        "public_models_without_contracts": lambda id, node: (
            node["access"] == "public" and not node["config"]["contract"]["enforced"]
        ),
        "model_naming_conventions": lambda id, node: (
            node["name"].startswith(("stg_", "int_")) != node["name"].startswith(prefixes.get(layer(node), "no prefix"))
        ),
    }
    broken = {rule: {n["name"] for id, n in nodes.items() if breaks(id, n)} for rule, breaks in of_models.items()}
    broken["source_fanout"] = {source["name"] for id, source in sources.items() if len(children[id]) > 1}
    broken["unused_sources"] = {source["name"] for id, source in sources.items() if not children[id]}
    broken["undocumented"] = {node["name"] for node in (*nodes.values(), *sources.values()) if undocumented(node)}
    shown = {id for exposure in exposures for id in exposure["depends_on"]["nodes"] if id in nodes}
    broken["exposure_parents_materializations"] = {nodes[id]["name"] for id in shown & views}
    private = {nodes[id]["name"] for id in shown if nodes[id]["access"] != "public"}
    broken["exposures_dependent_on_private_models"] = private
    assert broken == {rule: set(exceptions) for rule, exceptions in EXCEPTIONS.items()}
