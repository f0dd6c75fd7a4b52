"""The command: python -m lmsa_bench.new"""

import sys

from lmsa_bench.errors import exit_status
from lmsa_bench.new.command import main

if __name__ == "__main__":
    sys.exit(exit_status(main))
