"""docs/readings.md states each task's source recipe: here it is compared with the code's."""

import re
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from lmsa_bench.tasks import TASKS

PAGE = (Path(__file__).parents[2] / "docs/readings.md").read_text()
ROWS = re.findall(r"^\| (`.*) \| `(\w+)` \| (\w+) weights \| (.*) \|$", PAGE, re.MULTILINE)
STATED = {task: row[1:] for row in ROWS for task in re.findall(r"`(\w+)`", row[0])}
OURS = [name for name in TASKS.names() if TASKS.get(name).__module__.startswith("lmsa_bench.")]  # no plug-in's


def rate(lr):
    return f"{lr:.0e}".replace("e-0", "e-")


@pytest.mark.parametrize("name", OURS)
def test_the_page_states_each_source_recipe(name):
    task = TASKS.get(name)()
    network, start, stated = STATED[name]
    source = task.source
    assert network == task.model
    assert start == ("random" if source.weights == "pretrain" else "published")
    if source.weights == "pretrain":
        expected = f"{source.epochs} of all, {rate(source.lr)}"
    elif source.stages:
        images = " on the task's tuning images" * source.on_tuning
        what = {"head": f"a new head{images}", "all": "all"}
        expected = "; ".join(f"{stage.epochs} of {what[stage.tune]}, {rate(stage.lr)}" for stage in source.stages)
    else:
        expected = (
            "none" if not source.epochs else f"none (`model: wrn_16_1` and the like: {source.epochs} of all, 3e-3)"
        )
    assert stated == expected


def test_the_page_states_what_one_cycle_does():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = OneCycleLR(optimizer, max_lr=1.0, total_steps=101)
    seen = []
    for _ in range(101):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step()
        if len(seen) <= 100:
            schedule.step()
    rates, betas = zip(*seen, strict=True)
    assert rates[0] == pytest.approx(1 / 25) and max(rates) == pytest.approx(1, abs=1e-3)
    assert 28 <= rates.index(max(rates)) <= 31 and rates[-1] == pytest.approx(1 / 250_000)
    assert (betas[0], min(betas), betas[-1]) == pytest.approx((0.95, 0.85, 0.95), abs=1e-3)
