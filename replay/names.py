"""Names of nobody, for generated customers: common given names and surnames, drawn by a seed."""

import random
from typing import NamedTuple


class Region(NamedTuple):
    locale: str
    zone: str
    currency: str
    given: tuple[str, ...]
    family: tuple[str, ...]


REGIONS = (
    Region(
        "en",
        "Europe/London",
        "GBP",
        ("Alice", "Ben", "Clara", "Daniel", "Emma", "Frank", "Grace", "Henry", "Isla", "Jack"),
        ("Archer", "Baker", "Carter", "Dawson", "Fletcher", "Harper", "Mason", "Porter", "Turner"),
    ),
    Region(
        "pt-BR",
        "America/Sao_Paulo",
        "BRL",
        ("Ana", "Bruno", "Camila", "Diego", "Elisa", "Felipe", "Helena", "Igor", "Júlia", "Lucas"),
        ("Almeida", "Barbosa", "Cardoso", "Duarte", "Farias", "Lopes", "Moreira", "Rocha", "Souza"),
    ),
)
_TRADES = ("Bakery", "Studio", "Garage", "Bookshop", "Café")


def person(dice: random.Random, region: Region) -> str:
    return f"{dice.choice(region.given)} {dice.choice(region.family)}"


def organisation(dice: random.Random, region: Region) -> str:
    return f"{dice.choice(region.family)} {dice.choice(_TRADES)}"
