"""The command: python -m lmsa_bench.new"""

import sys

from lmsa_bench.errors import exit_status, imported

if __name__ == "__main__":
    sys.exit(exit_status(lambda: imported("lmsa_bench.new.command").main()))
