"""The reference of the metrics as Markdown.

``python -m node.metrics_reference > docs/reference/metrics.md`` writes the page.
"""

import sys
from collections.abc import Iterator

from node.metrics import BUCKETS_S, Definition, Kind, Metric, Origin

_HEAD = """\
# Metrics and health checks

The web role serves `/metrics` for [Prometheus](https://prometheus.io), `/healthz` and `/readyz`,
by default on 127.0.0.1:8080. One address tells of the whole node: of the processes of this
machine, and of others that share the data folder.

A Prometheus with alert rules and a Grafana with a dashboard are ready in `docker/`:
`docker compose -f docker/compose.yaml --profile monitoring up`.

## Health

| address | 200 means |
|---|---|
| `/healthz` | each role of the node has given a sign of life in the last 10 s |
| `/readyz` | that, the job database answers, and the disk has `receive.min_free_bytes` free |

Otherwise they answer 503. The body is JSON: each check, with what it found in words. `/readyz` is
for monitoring and load balancers: what is sent now is taken and worked on. `/healthz` is for what
restarts the node when it is dead; a full disk, which does not go by that, is none of its business.
Where containers run a part of the roles each, both tell of all roles, so do not let `/healthz`
restart the web container because another one is away.

## Metrics

No label holds patient data, a UID, or text that a stranger can choose. Labels whose values are
"named by settings" are AE titles of sources, names of destinations, or machines and their devices.

What processes count is written to the folder `metrics` of the data folder every 2 s, and added up
by the web role. A process that starts goes on where its predecessor ended, so counters survive
restarts; one that is killed takes with it what it counted in its last 2 s. When this folder is
removed while the node stands still, all begin at 0. Commands such as `hepar pull` are no process of
the node, and what they do is not counted.

What is read from the job database is read at each scrape: with 300,000 jobs in it a scrape took 0.1
to 0.3 s on 2 cores with other work, from SQLite and from PostgreSQL. Where the database does not
answer, `hepar_database_up` is 0 and its metrics are missing.
"""


def metrics_reference() -> str:
    """Give the whole page."""
    parts = [_HEAD]
    titles = {
        Origin.PROCESSES: "Counted by processes",
        Origin.DATABASE: "Read from the job database",
        Origin.WEB: "Seen by the web role",
    }
    for origin, title in titles.items():
        parts.append(f"\n### {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
        parts += [_row(one.value) for one in Metric if one.value.origin is origin]
    bounds = ", ".join(f"{bound:g}" for bound in BUCKETS_S)
    parts.append(f"\nHistograms have the buckets {bounds} s, and above.\n")
    parts.append("\n### Values of labels\n\n| metric | label | values |\n|---|---|---|\n")
    parts += [row for one in Metric for row in _values(one.value)]
    return "".join(parts)


def _row(known: Definition) -> str:
    labels = ", ".join(f"`{name}`" for name in known.labels) or "none"
    return f"| `{known.name}` | {known.kind.value} | {labels} | {known.help} |\n"


def _values(known: Definition) -> Iterator[str]:
    for name, values in known.labels.items():
        listed = (
            "named by settings" if values is None else ", ".join(f"`{value}`" for value in values)
        )
        yield f"| `{known.name}` | `{name}` | {listed} |\n"


def sample_names() -> set[str]:
    """Give the names of all time series, as queries name them."""
    names = set()
    for known in (metric.value for metric in Metric):
        is_histogram = known.kind is Kind.HISTOGRAM
        endings = ("_bucket", "_count", "_sum") if is_histogram else ("",)
        names |= {known.name + ending for ending in endings}
    return names


if __name__ == "__main__":
    sys.stdout.write(metrics_reference())
