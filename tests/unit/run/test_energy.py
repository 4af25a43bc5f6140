from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.errors import ConfigError
from tunewright.run.energy import EnergyMeter


def zone(folder: Path, name: str, label: str, energy: int, most: int | None = 1_000_000_000) -> Path:
    path = folder / name
    path.mkdir()
    (path / "name").write_text(label + "\n")
    (path / "energy_uj").write_text(f"{energy}\n")
    if most is not None:
        (path / "max_energy_range_uj").write_text(f"{most}\n")
    return path


def test_packages_are_added_up_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    counted = [zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 5_000_000) for i in range(2)]
    inside = zone(tmp_path, "intel-rapl:0:0", "core", 5_000_000)
    whole = zone(tmp_path, "intel-rapl:2", "psys", 5_000_000)
    meter = EnergyMeter(tmp_path)
    for path in (*counted, inside, whole):
        (path / "energy_uj").write_text("7500000")
    assert meter.lap() == pytest.approx(5.0)
    assert meter.lap() == 0.0
    (counted[0] / "energy_uj").write_text("8500000")
    assert meter.lap() == pytest.approx(1.0)
    assert meter.joules == pytest.approx(6.0)


def test_counters_that_start_again_are_followed(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    with EnergyMeter(tmp_path) as meter:
        (path / "energy_uj").write_text("2000000")
    assert meter.joules == pytest.approx(3.0)


@pytest.mark.parametrize("damage", ["no folder", "no range", "not a number", "no package"])
def test_without_a_counter_it_says_so(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "powercap"
    if damage != "no folder":
        folder.mkdir()
        label = "dram" if damage == "no package" else "package-0"
        path = zone(folder, "intel-rapl:0", label, 1, None if damage == "no range" else 1000)
        if damage == "not a number":
            (path / "energy_uj").write_text("")
    with pytest.raises(ConfigError, match="needs a readable counter; .*powercap has none"):
        EnergyMeter(folder)
