"""Positives and junk: own images, and validation groups. Scored as ROxford and RParis are."""

from . import Difficulty, Protocol

PROTOCOL = Protocol(
    lists=("positive", "junk"),
    difficulties={"all": Difficulty(positive=("positive",), ignored=("junk",))},
    main="all",
)
