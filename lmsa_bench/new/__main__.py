"""The command: python -m lmsa_bench.new"""

import sys

from lmsa_bench.errors import exit_status, run_command

if __name__ == "__main__":
    sys.exit(exit_status(lambda: run_command("new", sys.argv[1:])))
