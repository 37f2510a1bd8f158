"""deploy/prometheus and deploy/grafana: metrics and labels exist, expressions parse, alerts have a runbook."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.alerts import RULES, firing, rules
from tests.support.debian import program
from tests.support.pages import DOCS, ROOT

from refund_worker.metrics import METRICS, Kind

DASHBOARD = ROOT / "deploy" / "grafana" / "refund-worker.json"
# Of Prometheus itself, and the variables of Grafana.
FOREIGN_LABELS = {"job", "le"}
PARTS = ("bucket", "sum", "count")


def expressions() -> Iterator[tuple[str, str]]:
    """Yield (where, expression) of every alert and every panel."""
    for name, rule in rules().items():
        yield name, str(rule["expr"])
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def names_in(expression: str) -> set[str]:
    """Return the metrics of ours that an expression names, without a histogram's suffix."""
    named = re.findall(r"refund_worker_\w+", expression)
    series = {
        f"{m.full_name}_{part}": m.full_name for m in METRICS.values() if m.kind is Kind.HISTOGRAM for part in PARTS
    }
    return {series.get(name, name) for name in named}


def labels_in(expression: str) -> set[str]:
    """Return the labels that an expression selects or groups by."""
    selected = re.findall(r"[{,]\s*(\w+)\s*(?:=|!=|=~|!~)\s*\"", expression)
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {*selected, *(name.strip() for group in grouped for name in group.split(",") if name.strip())}


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_and_label_exists(where: str, expression: str) -> None:
    ours = {metric.full_name: metric for metric in METRICS.values()}
    names = names_in(expression)
    assert names - ours.keys() == set(), where
    known = {label for name in names for label in ours[name].labels}
    assert labels_in(expression) - known - FOREIGN_LABELS == set(), where


def test_every_metric_is_used_in_an_alert_or_a_panel() -> None:
    used = {name for _, expression in expressions() for name in names_in(expression)}
    assert {metric.full_name for metric in METRICS.values()} - used == set()


def test_every_expression_parses(tmp_path: Path) -> None:
    recorded = [{"record": f"x{n}", "expr": expression} for n, (_, expression) in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}), "utf-8")
    for each in (file, RULES):
        ran = subprocess.run([program("promtool"), "check", "rules", each], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr


def test_every_alert_leads_to_its_heading_of_the_runbook() -> None:
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", (DOCS / "runbook.md").read_text("utf-8"), re.MULTILINE)
    }
    for name, rule in rules().items():
        annotations: Any = rule["annotations"]
        anchor = re.sub("(?<=[a-z])(?=[A-Z])", "-", name).lower()
        assert annotations["runbook_url"] == f"docs/runbook.md#{anchor}"
        assert anchor in headings, name


def test_panels_have_titles_units_and_a_place_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]


UP = '# TYPE up gauge\nup{job="refund-worker",instance="w"} '


def test_web_is_down_if_it_does_not_answer_or_no_target_is_known(tmp_path: Path) -> None:
    assert "WebDown" not in firing(tmp_path, UP + "1\n", UP + "1\n")
    assert "WebDown" in firing(tmp_path, UP + "1\n", UP + "0\n")
    other = UP.replace("refund-worker", "another") + "1\n"
    assert "WebDown" in firing(tmp_path, other, other)


def test_worker_is_missed_only_where_processes_share_a_broker(tmp_path: Path) -> None:
    page = (
        '# TYPE refund_worker_processes gauge\nrefund_worker_processes{{kind="worker"}} 0\n'
        "# TYPE refund_worker_broker_shared gauge\nrefund_worker_broker_shared {}\n"
    )
    assert "WorkerDown" in firing(tmp_path, page.format(1), page.format(1))
    assert "WorkerDown" not in firing(tmp_path, page.format(0), page.format(0))


def test_read_only_database_is_one_alert_while_nobody_can_report(tmp_path: Path) -> None:
    page = (
        '# TYPE refund_worker_processes gauge\nrefund_worker_processes{{kind="worker"}} 0\n'
        'refund_worker_processes{{kind="scheduler"}} 0\n'
        "# TYPE refund_worker_processor_state gauge\n"
        'refund_worker_processor_state{{processor="stripe",state="stale"}} 1\n'
        "# TYPE refund_worker_database_up gauge\nrefund_worker_database_up 1\n"
        "# TYPE refund_worker_database_writable gauge\nrefund_worker_database_writable {}\n"
    )
    assert firing(tmp_path, page.format(0), page.format(0)) - {"WebDown"} == {"DatabaseReadOnly"}
    assert firing(tmp_path, page.format(1), page.format(1)) >= {"SchedulerDown", "WorkerDown", "ListingStale"}


def test_first_alarm_of_its_kind_raises_an_alert(tmp_path: Path) -> None:
    page = '# TYPE refund_worker_alarms counter\nrefund_worker_alarms_total{{alarm="refunded_twice"}} {}\n'
    assert "RefundedTwice" in firing(tmp_path, page.format(0), page.format(1))
    assert "RefundedTwice" not in firing(tmp_path, page.format(1), page.format(1))


def test_first_failure_of_its_kind_is_in_the_panel(tmp_path: Path) -> None:
    # A code has no series before its first failure, and the increase of a new series begins at 0.
    failures = 'refund_worker_refunds_ended_total{status="failed",code="%s"}'
    up = {"series": "refund_worker_database_up", "values": "1x120"}
    new, old = (
        {"series": failures % code, "values": values} for code, values in (("new", "_x89 1x30"), ("old", "7x120"))
    )
    (panel,) = (expression for where, expression in expressions() if where.startswith("Failed refunds by code"))
    tests = []
    for series, at, code, value in (
        ([up, new], "95m", "new", 1),
        ([up, old], "95m", "old", 0),
        ([up, old], "9m", "old", 0),
    ):
        expected = [{"labels": f'{{code="{code}"}}', "value": value}]
        asked = [{"expr": panel, "eval_time": at, "exp_samples": expected}]
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": asked})
    file = tmp_path / "panel_test.yml"
    file.write_text(yaml.safe_dump({"tests": tests}), "utf-8")
    ran = subprocess.run([program("promtool"), "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
