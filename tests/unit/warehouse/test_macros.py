"""Where macros are described."""

import re
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[3]
MACRO = re.compile(r"(-#\}\n)?\{% (macro|test) (\w+)\(([^\n]*?)\) -?%\}")


def test_a_macro_is_described_in_yml_if_others_call_it_and_by_a_comment_if_not():
    """One place each; dbt compares the arguments (validate_macro_args)."""
    described = {m["name"] for m in yaml.safe_load((PROJECT / "macros" / "macros.yml").read_text())["macros"]}
    called, wrong = set(), []
    for file in (*PROJECT.glob("models/**/*.*"), *PROJECT.glob("*_models/*.yml"), PROJECT / "dbt_project.yml"):
        called |= set(re.findall(r"churn_radar\.(\w+)\(", file.read_text()))
    for file in PROJECT.glob("macros/*.sql"):
        for comment, kind, name, _ in MACRO.findall(file.read_text()):
            is_open = kind == "test" or name in called
            full = f"test_{name}" if kind == "test" else name
            if (full in described) != is_open or bool(comment) == is_open:
                wrong.append(full)
    assert wrong == []
