"""docker-compose.yml speaks of settings that exist and carries no secret."""

import re
from typing import Any

import yaml

from settings import Settings
from supervisor.service import ROOT
from supervisor.temporal import DYNAMIC_CONFIG

COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {f"CRM_{name.upper()}" for name in Settings.model_fields}
    used = set(re.findall(r"\bCRM_[A-Z_]+", COMPOSE))
    assert used <= known


def test_every_secret_must_be_given() -> None:
    given = re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / "deploy" / "env.example").read_text(), re.M)
    assert {value for _, value in given} == {""}
    substituted = re.findall(r"\$\{([A-Z_]+)(.*?)\}", COMPOSE)
    assert all(rest.startswith(":?") for _, rest in substituted)
    from_environment = re.findall(r"environment: (PERENNIAL_[A-Z_]+)", COMPOSE)
    assert {name for name, _ in given} == {name for name, _ in substituted} | set(from_environment)


def test_images_are_pinned_and_ports_stay_on_this_machine() -> None:
    images = [service["image"] for service in SERVICES.values()]
    assert all(re.search(r":(v?\d+\.\d+|local)", image) for image in images)
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_keeps_running_says_whether_it_is_healthy() -> None:
    lasting = {name for name, s in SERVICES.items() if s.get("restart") == "unless-stopped"}
    assert {name for name in lasting if "healthcheck" not in SERVICES[name]} == set()


def test_the_server_has_the_settings_of_the_embedded_one() -> None:
    there = yaml.safe_load((ROOT / "deploy" / "temporal-dynamic-config.yaml").read_text())
    ours = {name: yaml.safe_load(value) for name, value in DYNAMIC_CONFIG.items()}
    assert {name: one["value"] for name, [one] in there.items()} == ours
