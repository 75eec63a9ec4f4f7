#!/usr/bin/env python3
"""Writes deploy/grafana/stockade.json, the dashboard of Grafana for `stockade serve`.

    deploy/grafana/dashboard.py
"""

import json
from pathlib import Path

SITE = 'job="$job",exported_instance=~"$site"'
# title, unit, [(query, legend)]
PANELS = [
    ("Requests by status", "reqps", [(f"sum by (status) (rate(stockade_requests_total{{{SITE}}}[$__rate_interval]))", "{{status}}")]),
    (
        "Time of a request",
        "s",
        [
            (f"histogram_quantile({q}, sum by (le) (rate(stockade_request_duration_seconds_bucket{{{SITE}}}[$__rate_interval])))", f"p{round(q * 100)}")
            for q in (0.5, 0.95, 0.99)
        ],
    ),
    ("Processor time of guests", "percentunit", [(f"sum by (exported_instance) (rate(stockade_isolate_cpu_seconds_total{{{SITE}}}[$__rate_interval]))", "{{exported_instance}}")]),
    ("Memory of guests", "bytes", [(f"sum by (exported_instance) (stockade_isolate_memory_bytes{{{SITE}}})", "{{exported_instance}}")]),
    ("Mirrors", "short", [(f"sum by (exported_instance, state) (stockade_mirrors{{{SITE}}})", "{{exported_instance}} {{state}}")]),
    ("Ends of mirrors by reason", "short", [(f"sum by (reason) (increase(stockade_mirror_ends_total{{{SITE}}}[$__rate_interval])) > 0", "{{reason}}")]),
    ("Requests refused by the gateway", "reqps", [('sum by (reason) (rate(stockade_gateway_refused_total{job="$job"}[$__rate_interval])) > 0', "{{reason}}")]),
    ("Outbound requests refused", "reqps", [(f"sum by (exported_instance, reason) (rate(stockade_egress_refused_total{{{SITE}}}[$__rate_interval])) > 0", "{{exported_instance}} {{reason}}")]),
    ("Uncaught errors", "short", [(f"sum by (exported_instance) (increase(stockade_uncaught_errors_total{{{SITE}}}[$__rate_interval]))", "{{exported_instance}}")]),
    ("Memory of the supervisor", "bytes", [('process_resident_memory_bytes{job="$job"}', "{{instance}}")]),
]
SOURCE = {"type": "prometheus", "uid": "${source}"}


def panel(number, title, unit, queries):
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(queries)
        ],
    }


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2}


def main():
    dashboard = {
        "uid": "stockade",
        "title": "Stockade",
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
                variable("job", "Job", "label_values(stockade_start_time_seconds, job)"),
                {**variable("site", "Site", 'label_values(stockade_mirrors_wanted{job="$job"}, exported_instance)'), "multi": True, "includeAll": True},
            ]
        },
        "panels": [panel(number, *about) for number, about in enumerate(PANELS)],
    }
    Path(__file__).with_name("stockade.json").write_text(json.dumps(dashboard, indent=1) + "\n")


if __name__ == "__main__":
    main()
