# %% [markdown]
# # A method of one's own, from its file to a table
# `own_method/lookahead.py` is the method, `own_method/lookahead.yaml` the suite that compares it. This script is what
# its author does with them; it runs in a minute, here on one task with one seed.

# %% Load the suite: that imports the method, and checks every name and value.
from pathlib import Path

import lmsa_bench as lb
from lmsa_bench.methods import METHODS

suite = lb.load_suite(str(Path(__file__).parent / "own_method/lookahead.yaml"), seeds=1).only(tasks=["digits_flip"])

# %% An interrupted trial must resume to the same records: this compares them.
lb.check_resume(METHODS.get("lookahead"), lr=1e-2)

# %% Run it here, without Ray: an error in the method ends in its own traceback.
results = lb.run(suite, results="results_lookahead")
report = results.report(suite)
print(report.text("table"))
report.figures()["accuracies"].savefig("results_lookahead/accuracies.png")
