"""The bars that an owner states a model to have seen."""

from __future__ import annotations

from datetime import date

import pytest

from flagbt.data.time_range import TimeRange
from flagbt.errors import UsageError
from flagbt.models.importing import OwnerDeclaration

SEEN = TimeRange.parse("20230101-20230501")
TODAY = date(2024, 7, 1)


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        ({"seen": TimeRange.parse("20230101-20240703")}, "--trained-on: 20230101-20240703 ends in the future"),
        ({"seen": SEEN, "validated_on": TimeRange.parse("20240601-20240801")}, "--validated-on: 20240601-20240801 ends in the"),
        ({"seen_text": "none", "validated_on": SEEN}, r"--validated-on 20230101-20230501: .* Give that range"),
        ({"seen_text": "unknown", "validated_on": SEEN}, "Give that range with --trained-on"),
        ({"validated_on": SEEN}, "Give that range with --trained-on"),
    ],
)
def test_bars_that_cannot_have_been_seen_are_refused(facts: dict[str, object], fault: str) -> None:
    """If it fails, bars of the validation are stored as unseen, or a range that is not over as seen."""
    OwnerDeclaration(seen=SEEN, validated_on=TimeRange.parse("20230401-20230501"), today=TODAY)
    with pytest.raises(UsageError, match=fault):
        OwnerDeclaration(**facts, today=TODAY)
