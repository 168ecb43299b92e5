"""`ansible/monitoring.yml`: what it writes fits what members say of themselves."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.hosts.site import changes

if TYPE_CHECKING:
    from tests.hosts.site import Site

pytestmark = pytest.mark.timeout(300)

LABELS: Final = {"job", "instance", "member", "le", "To", "grpc_service", "grpc_method", "grpc_code"}
WORDS: Final = {"sum", "count", "rate", "increase", "histogram_quantile", "predict_linear", "by", "and", "up"}
"""What an expression holds beside metrics: Prometheus' own."""
SERIES: Final = re.compile(r"^([a-z_]+)", re.MULTILINE)


def names(expression: str) -> set[str]:
    """The metrics of an expression; whoever writes a label or a function that is not known here adds it above."""
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing), expression
    found = set(re.findall(r"[A-Za-z_]{2,}", re.sub(r'"[^"]*"|\[\w+\]', "", expression)))
    return found - LABELS - WORDS


def metrics(site: Site, target: str, tls: dict[str, str]) -> set[str]:
    """What a member exposes to whom the scrape configuration lets in."""
    files = ("--cacert", tls["ca_file"], "--cert", tls["cert_file"], "--key", tls["key_file"])
    said = site.lab.run("curl", "--silent", "--fail", *files, f"https://{target}/metrics")
    return set(SERIES.findall(said))


def rules(text: str) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(text)["groups"]
    return list(group["rules"])


def test_every_metric_that_is_named_can_be_scraped(cluster: Site) -> None:
    place = cluster.directory / "monitoring"
    options: dict[str, Any] = {"etcdpy_monitoring_directory": str(place), "etcdpy_monitoring_host": ""}
    cluster.play("monitoring.yml", **options)
    assert set(changes(cluster.play("monitoring.yml", **options)).values()) == {0}

    (job,) = yaml.safe_load((place / "etcd-scrape.yml").read_text())["scrape_configs"]
    assert (job["job_name"], job["scheme"]) == ("etcd", "https")
    scraped = {each["labels"]["member"]: each["targets"] for each in job["static_configs"]}
    assert scraped == {host: [f"{cluster.lab.addresses[host]}:2379"] for host in cluster.members}
    shown = [metrics(cluster, target, job["tls_config"]) for (target,) in scraped.values()]
    known = set.intersection(*shown)

    alerts = rules((place / "etcd-alerts.yml").read_text())
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 10
    for rule in alerts:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert names(rule["expr"]) <= known, rule["alert"]

    dashboard = json.loads((place / "etcd-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert len({tuple(panel["gridPos"].items()) for panel in panels}) == len(panels)
    for panel in panels:
        assert names(panel["targets"][0]["expr"].replace("$member", "")) <= known, panel["title"]
    assert names('sum(rate(no_such_total{job="etcd"}[5m]))') == {"no_such_total"}


def test_they_are_brought_to_the_host_of_prometheus(cluster: Site) -> None:
    place = "/root/prometheus"
    options: dict[str, Any] = {"etcdpy_monitoring_host": "controller-1", "etcdpy_monitoring_place": place}
    cluster.play("monitoring.yml", etcdpy_monitoring_directory=str(cluster.directory / "brought"), **options)
    try:
        job = yaml.safe_load(cluster.lab.on("controller-1", "cat", f"{place}/etcd-scrape.yml"))["scrape_configs"][0]
        assert set(job["tls_config"].values()) == {
            f"{place}/{name}" for name in ("ca.pem", "prometheus.pem", "prometheus-key.pem")
        }
        assert rules(cluster.lab.on("controller-1", "cat", f"{place}/etcd-alerts.yml"))
    finally:
        cluster.lab.on("controller-1", "rm", "-r", place)
