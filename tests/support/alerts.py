"""The alert rules of deploy/prometheus, evaluated by Prometheus' own promtool on pages of /metrics."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.debian import program
from tests.support.pages import ROOT

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
# Minutes of each page, and of the evaluations: rules wait for up to 5 minutes, and look back up to 15.
EACH, TIMES = 30, ("33m", "37m")
SECONDS_MAX = 60


def rules() -> dict[str, dict[str, object]]:
    """Return the alert rules by name."""
    loaded = yaml.safe_load(RULES.read_text("utf-8"))
    return {rule["alert"]: rule for group in loaded["groups"] for rule in group["rules"]}


def firing(folder: Path, before: str, after: str) -> set[str]:
    """Return the names of the alerts that fire within minutes after the metrics changed from `before` to `after`.

    Skips the test, and says so, if promtool is not installed.
    """
    promtool = program("promtool")
    earlier, later = _samples(before), _samples(after)
    series = [
        {"series": name, "values": f"{earlier.get(name, '_')}x{EACH} {later.get(name, '_')}x{EACH}"}
        for name in sorted({*earlier, *later})
    ]
    asked = [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in rules() for at in TIMES]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "30s",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": asked}],
    }
    file = folder / "alerts_test.yml"
    file.write_text(yaml.safe_dump(test), "utf-8")
    ran = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert ran.returncode == 0 or "FAILED" in ran.stdout + ran.stderr, ran.stderr
    return set(re.findall(r'Labels:\{[^}]*alertname="(\w+)"', ran.stdout + ran.stderr))


def _samples(page: str) -> dict[str, str]:
    """Return the samples of a page: the series as promtool writes it, and its value."""
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ", ".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = f"{sample.value:.6f}"
    return found
