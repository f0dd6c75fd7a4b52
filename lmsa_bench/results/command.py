"""Brings an MLflow store up to date with a results folder:  python -m lmsa_bench.results sync"""

import argparse
from pathlib import Path

from lmsa_bench.errors import StoreUnavailable, UserError
from lmsa_bench.results.journal import DEFAULT_RESULTS, Journal, opened
from lmsa_bench.results.tracking import ResultStore, chosen_uri

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


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status is 0, or 2 where the store or the folder cannot be used (see errors.exit_status)."""
    parser = argparse.ArgumentParser(prog="python -m lmsa_bench.results", description=__doc__)
    add = parser.add_subparsers(required=True, metavar="sync").add_parser("sync", help=__doc__, description=__doc__)
    add.add_argument("--results", type=Path, default=Path(DEFAULT_RESULTS), help="the sweep's folder (%(default)s)")
    add.add_argument("--storage", metavar="URI", help="the sweep's storage")
    add.add_argument("--tracking-uri", help="MLflow store ($MLFLOW_TRACKING_URI, else the results folder's own)")
    options = parser.parse_args(arguments)
    journal = opened(options.results, options.storage)
    store = ResultStore(chosen_uri(options.tracking_uri, journal.root))
    written = sync(journal, store)
    print(f"{written} of {len(journal.ids())} trials were out of date in {store.shown}; now it is complete")
    return 0
