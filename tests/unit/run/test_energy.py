from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import ConfigError
from tunewright.run.energy import AcceleratorMeter, EnergyMeter, machine_meter
from tunewright.run.messages import Answer, Finish, Report, Segment
from tunewright.run.metering import Metered


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


class Library:
    """As much of NVML as the meter calls."""

    def __init__(self, joules: list[float | None], broken: bool = False) -> None:
        self.joules = joules
        self.broken = broken

    def nvmlInit_v2(self) -> int:
        return 9 if self.broken else 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.joules)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: int, device: Any) -> int:
        device._obj.value = number + 1
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, used: Any) -> int:
        found = self.joules[device.value - 1]
        if found is None:
            return 3
        used._obj.value = int(found * 1000)
        return 0


def test_accelerators_are_added_up_and_those_that_do_not_count_are_left_out() -> None:
    library = Library([1.0, None, 10.0])
    meter = AcceleratorMeter(library)
    library.joules[:] = [3.5, None, 11.0]
    assert meter.lap() == pytest.approx(3.5)
    library.joules[:] = [0.0, None, 12.0]
    assert meter.lap() == pytest.approx(1.0), "the driver was loaded anew"
    for useless in (Library([]), Library([None]), Library([1.0], broken=True), object()):
        with pytest.raises(ConfigError, match="needs an accelerator that counts"):
            AcceleratorMeter(useless)


def test_a_machine_is_all_that_counts(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    library = Library([5.0])
    meter = machine_meter(tmp_path, library)
    (path / "energy_uj").write_text("3000000")
    library.joules[:] = [6.0]
    assert meter.lap() == pytest.approx(3.0)
    (path / "energy_uj").write_text("4000000")
    assert isinstance(machine_meter(tmp_path, Library([])), EnergyMeter)
    assert isinstance(machine_meter(tmp_path / "none", Library([1.0])), AcceleratorMeter)
    with pytest.raises(ConfigError, match="needs a readable counter"):
        machine_meter(tmp_path / "none", Library([]))


def burning(path: Path, joules: float) -> None:
    """The machine uses energy."""
    (path / "energy_uj").write_text(str(int((path / "energy_uj").read_text()) + int(joules * 1e6)))


@pytest.mark.parametrize("how", [{}, {"workers": 2}], ids=["here", "workers"])
def test_a_run_records_what_each_trial_used(how: dict[str, Any], tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 0, 10**15)

    def train(trial: tw.Attempt) -> float:
        for _ in trial.steps():
            burning(path, 2.0)
            trial.report(loss=trial["x"])
        burning(path, 1.0)
        return trial["x"]

    with tw.Study.open(
        "s", {"x": tw.Float(0, 1)}, method="random", storage=tmp_path / "s.db", steps=3
    ) as study:
        study.run(train, trials=1, progress="none", cost=EnergyMeter(tmp_path), **how)
        (trial,) = study.trials
        assert [r.cost for r in trial.reports] == pytest.approx([2.0, 2.0, 2.0])
        assert trial.cost == pytest.approx(7.0), "what came after the last report counts"
        assert study.history() is not None


def test_a_trial_without_reports_costs_its_energy_and_one_that_says_its_cost_keeps_it(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 0, 10**15)

    def silent(x: float) -> float:
        burning(path, 4.0)
        return x

    def outspoken(trial: tw.Attempt) -> float:
        burning(path, 4.0)
        trial.report(1, loss=1.0, cost=99.0)
        burning(path, 4.0)
        return 1.0

    with tw.Study.open("s", {"x": tw.Float(0, 1)}, method="random", storage="memory") as study:
        study.run(silent, trials=2, progress="none", cost=EnergyMeter(tmp_path))
        study.run(outspoken, trials=3, progress="none", cost=EnergyMeter(tmp_path))
        study.run(silent, trials=4, progress="none")
        assert [t.cost for t in study.trials][:3] == pytest.approx([4.0, 4.0, 99.0])
        assert study.trials[3].cost < 1.0, "seconds, as ever"


class Steady:
    """Counts one unit per lap."""

    def __init__(self) -> None:
        self.total = 0.0

    def lap(self) -> float:
        self.total += 1.0
        return 1.0


def test_what_runs_at_the_same_time_shares(tmp_path: Path) -> None:
    meter, heard = Steady(), []

    class Fake:
        capacity = 2

        def connect(self, sink: Any) -> None:
            self.sink = sink

        def submit(self, segment: Segment) -> None:
            pass

    fake: Any = Fake()
    executor = Metered(fake, meter)
    assert executor.capacity == 2
    executor.connect(lambda message: heard.append(message) or Answer())
    executor.submit(Segment(0, 1, {}, [], ""))  # nobody ran while this lap was counted
    executor.submit(Segment(1, 2, {}, [], ""))  # 1 for trial 0
    fake.sink(Report(0, 1, 1, {}))  # half for each
    fake.sink(Finish(1, 2, "completed"))  # half for each
    fake.sink(Finish(0, 1, "completed"))  # 1 for trial 0
    assert heard[0].cost == 1.5
    assert (heard[1].trial, heard[1].rest) == (1, 1.0)
    assert (heard[2].trial, heard[2].rest) == (0, 1.5)
    assert meter.total - 2.0 == 1.5 + 1.0 + 1.5


def test_costs_that_make_no_sense_are_refused_before_anything_is_begun(tmp_path: Path) -> None:
    with tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory") as study:
        for cost, more, words in (
            ("joules", {}, "cost must be 'seconds', 'energy' or a meter"),
            (3, {}, "a meter with lap"),
            ("energy", {"on": "ray"}, "A meter counts on this machine"),
        ):
            with pytest.raises(ConfigError, match=words):
                study.run(lambda x: x, trials=1, progress="none", cost=cost, **more)  # type: ignore[arg-type]
        assert len(study.trials) == 0
