"""What `docker/` gives to Prometheus and Grafana asks for metrics that the node has."""

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles import BoxSegmenter

from benchmarks.peers import wait_until
from node.metrics import Metric
from node.metrics_files import FOLDER, publishing
from node.metrics_reference import metrics_reference, sample_names
from node.web.server import WebServer
from node.worker import Worker

TOP = Path(__file__).parents[2]
ALERTS = TOP / "docker" / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((TOP / "docker" / "grafana" / "hepar.json").read_text(encoding="utf-8"))
LABELS = {metric.value.name: metric.value.labels for metric in Metric}


def dashboard_queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "5m")


def alert_queries() -> list[str]:
    return re.findall(r"^ +expr: (.+)$", ALERTS.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_is_what_the_code_says():
    """`python -m node.metrics_reference > docs/reference/metrics.md` writes it."""
    page = TOP / "docs" / "reference" / "metrics.md"
    assert page.read_text(encoding="utf-8") == metrics_reference()


@pytest.mark.parametrize("query", [*dashboard_queries(), *alert_queries()])
def test_each_query_is_about_what_there_is(query: str):
    names = re.findall(r"\bhepar_\w+", query)
    assert set(names) <= sample_names()
    for name, matchers in re.findall(r"(hepar_\w+)\{([^}]*)\}", query):
        known = LABELS[re.sub(r"(?<=_seconds)_(bucket|count|sum)$", "", name)]
        for label, pattern in re.findall(r'(\w+)!?=~?"([^"]*)"', matchers):
            assert set(pattern.split("|")) <= set(known[label] or ())


def test_each_metric_is_on_the_dashboard():
    text = " ".join(dashboard_queries())
    shown = {name for name in LABELS if re.search(rf"\b{name}(_bucket|_count|_sum)?\b", text)}
    assert LABELS.keys() - shown == {"hepar_build_info"}


def test_panels_do_not_lie_over_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not own & taken, panel["title"]
        assert max(x for x, _ in own) < 24
        taken |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


FIRING = {
    "HeparDown": ('up{job="hepar"}', "0x120"),
    "HeparDatabaseDown": ("hepar_database_up", "0x120"),
    "HeparRoleMissing": ('hepar_role_processes{role="worker"}', "0x120"),
    "HeparProcessesDie": ('hepar_process_starts_total{role="worker"}', "1+1x120"),
    "HeparRoleTroubled": ('hepar_role_troubled{role="scheduler"}', "1x120"),
    "HeparQueueTooOld": ('hepar_job_oldest_age_seconds{state="QUEUED"}', "0+60x120"),
    "HeparSeriesWaitsTooLong": (
        'hepar_series_open_oldest_age_seconds{waits_for="quiet"}',
        "0+60x120",
    ),
    "HeparJobsFail": ('hepar_jobs{state="FAILED"}', "0x100 1x20"),
    "HeparDeliveryFails": ('hepar_delivery_oldest_age_seconds{destination="pacs"}', "0+60x120"),
    "HeparDeliveryGivenUp": ('hepar_deliveries{destination="pacs",state="FAILED"}', "0x100 1x20"),
    "HeparDiskGetsShort": ("hepar_disk_free_bytes", "500x120"),
    "HeparDiskShort": ("hepar_disk_free_bytes", "500x120"),
    "HeparAssociationsRefused": ('hepar_associations_total{outcome="TLS failed"}', "0+1x120"),
    "HeparInstancesRefused": ('hepar_refused_instances_total{status="CANNOT_STORE"}', "0x115 1x5"),
    "HeparDeviceMemoryShort": ('hepar_device_memory_used_bytes{host="h",device="0"}', "99x120"),
}
"""What makes each alert fire within two hours, one value a minute."""
QUIET = {
    'up{job="hepar"}': "1x120",
    "hepar_database_up": "1x120",
    'hepar_role_processes{role="worker"}': "1x120",
    'hepar_process_starts_total{role="worker"}': "3x60 4x60",
    'hepar_role_troubled{role="scheduler"}': "0x120",
    'hepar_job_oldest_age_seconds{state="QUEUED"}': "30x120",
    'hepar_job_oldest_age_seconds{state="RUNNING"}': "0+60x120",
    'hepar_series_open_oldest_age_seconds{waits_for="quiet"}': "5x120",
    'hepar_jobs{state="FAILED"}': "7x120",
    'hepar_jobs{state="DELIVERED"}': "0+1x120",
    'hepar_delivery_oldest_age_seconds{destination="pacs"}': "3x120",
    'hepar_deliveries{destination="pacs",state="FAILED"}': "2x120",
    "hepar_disk_free_bytes": "90000x120",
    "hepar_disk_reserve_bytes": "1000x120",
    'hepar_associations_total{outcome="accepted"}': "0+9x120",
    'hepar_associations_total{outcome="TLS failed"}': "3x120",
    'hepar_refused_instances_total{status="CANNOT_STORE"}': "3x120",
    'hepar_device_memory_used_bytes{host="h",device="0"}': "40x120",
    'hepar_device_memory_bytes{host="h",device="0"}': "100x120",
}
"""A node without trouble, as it looks for two hours."""


@pytest.mark.peer
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path, program: Callable[[str], str]):
    assert set(FIRING) == set(re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8")))

    def case(series: dict[str, str], *expected: str) -> dict:
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": text} for name, text in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "2h",
                    "exp_samples": [
                        {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in expected
                    ],
                }
            ],
        }

    alone = [
        case({**QUIET, name: text}, alert)
        for alert, (name, text) in FIRING.items()
        if not alert.startswith("HeparDisk")
    ]
    short = case(
        {**QUIET, "hepar_disk_free_bytes": "500x120"}, "HeparDiskGetsShort", "HeparDiskShort"
    )
    content = {"rule_files": [str(ALERTS)], "tests": [case(QUIET), *alone, short]}
    # JSON is YAML.
    (tmp_path / "test.yml").write_text(json.dumps(content))
    done = subprocess.run(
        [program("promtool"), "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.peer
def test_a_real_prometheus_reads_the_node_and_answers_each_query(
    hold, tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int]
):
    server = program("prometheus")
    web_port, port = free_port(), free_port()
    held = hold(web={"port": web_port})
    held.queue()
    services = held.services
    with publishing(services.metrics, services.files.data_dir / FOLDER, "worker"):
        Worker(services, BoxSegmenter(), threading.Event()).work_once()
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        f"rule_files: [{ALERTS}]\n"
        "scrape_configs:\n"
        f"- {{job_name: hepar, static_configs: [{{targets: ['127.0.0.1:{web_port}']}}]}}\n"
    )
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
    options.append(f"--web.listen-address=127.0.0.1:{port}")

    def ask(query: str) -> list:
        encoded = urllib.parse.urlencode({"query": query})
        url = f"http://127.0.0.1:{port}/api/v1/query?{encoded}"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]["result"]

    def is_scraped() -> bool:
        try:
            return any(one["value"][1] == "1" for one in ask('up{job="hepar"}'))
        except OSError:
            return False

    web = WebServer(services)
    web.start()
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([server, *options], cwd=tmp_path, stdout=log, stderr=log)
    try:
        wait_until(is_scraped, f"Prometheus reads the node, see {tmp_path}/prometheus.log", 30)
        [found] = ask('hepar_jobs{state="DELIVERED"}')
        assert found["value"][1] == "1"
        [found] = ask('hepar_job_attempt_duration_seconds_count{outcome="produced"}')
        assert found["value"][1] == "1"
        for query in (*dashboard_queries(), *alert_queries()):
            ask(query)
    finally:
        process.terminate()
        process.wait()
        web.stop()
