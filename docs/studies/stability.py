"""How well verdicts of one half of a sweep's replications are borne out by the other half:

python docs/studies/stability.py quickstart --seeds 10 --results results
"""

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from lmsa_bench.analysis import overall
from lmsa_bench.analysis.grids import reached
from lmsa_bench.analysis.intervals import Level, differences, judge, prior
from lmsa_bench.analysis.replications import replications
from lmsa_bench.results.journal import Journal
from lmsa_bench.suites.load import load


def verdicts(suite, table, rows, seeds):
    """Signed verdicts of each (task, pair): ours, and uncorrected t intervals; average ranks and their intervals."""
    part = replace(suite, trials=tuple(trial for trial in suite.trials if trial.seed in seeds))
    found = replications(part, table, rows)
    gaps = [one.differences for one in found]
    lent, level = prior(gaps), Level(sum(len(one.mean) for one in gaps))
    ours, plain = {}, {}
    for one, gap in zip(found, gaps, strict=True):
        fixed = differences(one.values)
        half = stats.t.ppf(0.975, fixed.n - 1) * np.sqrt(fixed.variance / fixed.n)
        for k, verdict in enumerate(judge(gap, lent, level, suite.margin).verdicts):
            ours[one.task, k] = (verdict, int(np.sign(gap.mean[k])))
            told = "better" if abs(fixed.mean[k]) > half[k] else "unknown"
            plain[one.task, k] = (told, int(np.sign(fixed.mean[k])))
    ranks = overall.rank_intervals(overall.compared(found), [values for _, values in overall.complete(found)])
    return ours, plain, {one.row: one for one in ranks}


def main() -> None:
    """Prints the shares over all splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--half", type=int, help="replications of a half (default: half of them)")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    table = Journal(options.results).table()
    suite = reached(load(options.suite, options.seeds), table)
    rows = [row for row in suite.rows if row.ranked]
    draw, half = np.random.default_rng(0), options.half or options.seeds // 2
    counts, inside, taus, winners = Counter(), [], [], []
    for _ in range(options.splits):
        order = draw.permutation(options.seeds).tolist()
        halves = [verdicts(suite, table, rows, set(part)) for part in (order[:half], order[half : 2 * half])]
        for name, which in (("ours", 0), ("uncorrected t", 1)):
            for first, second in (halves, halves[::-1]):
                for key, (verdict, sign) in first[which].items():
                    other, there = second[which][key]
                    counts[name, "all"] += 1
                    if verdict == "unknown":
                        continue
                    counts[name, "decided"] += 1
                    counts[name, "again"] += other == verdict and (verdict == "equal" or there == sign)
                    if verdict == "better":
                        counts[name, "better"] += 1
                        counts[name, "sign"] += there == sign
                        counts[name, "against"] += other == "better" and there != sign
        one, two = (part[2] for part in halves)
        inside += [one[row].low <= two[row].mean <= one[row].high for row in one]
        inside += [two[row].low <= one[row].mean <= two[row].high for row in one]
        names = list(one)
        taus.append(stats.kendalltau([one[n].mean for n in names], [two[n].mean for n in names])[0])
        winners.append(min(one.values(), key=lambda r: r.mean).row == min(two.values(), key=lambda r: r.mean).row)
    print(f"{suite.name}: {options.splits} splits into halves of {half} replications")
    for name in ("uncorrected t", "ours"):
        c = {key: counts[name, key] for key in ("all", "decided", "again", "better", "sign", "against")}
        print(
            f"{name}: decided {c['decided'] / c['all']:.1%}; of these again {c['again'] / max(1, c['decided']):.1%}; "
            f"of better: same sign {c['sign'] / max(1, c['better']):.2%}, "
            f"contradicted {c['against'] / max(1, c['better']):.2%}"
        )
    print(f"rank interval holds the other half's rank: {np.mean(inside):.1%}")
    print(
        f"average ranks of two halves: tau {np.mean(taus):.2f} ± {np.std(taus):.2f}, same winner {np.mean(winners):.0%}"
    )


if __name__ == "__main__":
    main()
