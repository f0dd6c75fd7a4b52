"""The command: python -m lmsa_bench.bundle"""

import sys

from lmsa_bench.bundle.command import main
from lmsa_bench.errors import exit_status

if __name__ == "__main__":
    sys.exit(exit_status(main))
