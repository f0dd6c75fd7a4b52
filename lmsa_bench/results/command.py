"""Brings an MLflow store up to date with a results folder:  python -m lmsa_bench.results sync"""

import subprocess
import sys

from lmsa_bench.errors import StoreUnavailable, UserError
from lmsa_bench.results.arguments import parser
from lmsa_bench.results.journal import Journal, opened
from lmsa_bench.results.tracking import UI, ResultStore, chosen_uri

OTHERS = "others"  # the suite, in MLflow, of trials that belong to no known suite


def sync(journal: Journal, store: ResultStore) -> int:
    """Writes all that is missing from the tracking store, whatever was published before; returns how many trials."""
    started, suites = set(journal.ids()), journal.suites()
    others = started.difference(*suites.values())
    written = 0
    refused = list[UserError]()
    for name, ids in {**suites, **({OTHERS: others} if others else {})}.items():
        try:
            written += store.settle(journal, name, ids)
            store.publish_summary(journal, name, anew=True)
        except StoreUnavailable:
            raise
        except UserError as error:  # of some trials, after all others were published
            refused.append(error)
    store.deduplicate()
    if refused:
        raise refused[0]
    return written


def ui(journal: Journal, store: ResultStore, port: int) -> int:
    """Serves MLflow's pages on this store until it is stopped, after a link for each suite; its exit status."""
    if store.is_server:
        raise UserError(f"tracking store {store.shown} serves its pages itself: open it there")
    for name in journal.suites():
        print(f"{name}: {store.link(name).replace(UI, f'http://127.0.0.1:{port}')}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--port", str(port)]
    return subprocess.call([*command, "--workers", "1"])  # one reader; with more, a busy machine's are killed as hung


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status is 0, or 2 where the store or the folder cannot be used (see errors.exit_status)."""
    options = parser().parse_args(arguments)
    journal = opened(options.results, options.storage)
    store = ResultStore(chosen_uri(options.tracking_uri, journal.root))
    if options.command == "ui":
        return ui(journal, store, options.port)
    written = sync(journal, store)
    print(f"{written} of {len(journal.ids())} trials were out of date in {store.shown}; now it is complete")
    return 0
