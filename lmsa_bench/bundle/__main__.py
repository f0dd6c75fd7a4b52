"""The command: python -m lmsa_bench.bundle"""

import sys

from lmsa_bench.errors import exit_status, run_command

if __name__ == "__main__":
    sys.exit(exit_status(lambda: run_command("bundle", sys.argv[1:])))
