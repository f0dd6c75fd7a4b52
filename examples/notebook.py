# %% [markdown]
# # One trial, then a suite, in a notebook
# Runs in a minute on a laptop; nothing to download. Open it as a notebook (jupytext, VS Code) or run it as a script.

# %% One trial: run it here, look at its epochs.
import lmsa_bench as lb

suite = lb.load_suite("quickstart", seeds=1).only(tasks=["digits_flip"], rows=["full", "lmsa", "lmsa_adam_k"])
results = lb.run(suite.trials[0], results="results_notebook")
frame = results.frame()
axes = frame.plot(x="epoch", y=["train_loss", "val_loss"], title=suite.trials[0].label, ylabel="loss (nats)")
axes.figure.savefig("results_notebook/one_trial.png")

# %% The suite: what has run is not run again.
results = lb.run(suite, results="results_notebook")
best = results.frame().groupby("method")["test_accuracy"].max().sort_values()
print(best)

# %% Its report: values, figures, and the table that a notebook shows.
report = results.report(suite)
print(report.statistics.average_ranks)
for name, figure in report.figures().items():
    figure.savefig(f"results_notebook/{name}.png")
report  # noqa: B018 - the last line of a cell is what it shows
