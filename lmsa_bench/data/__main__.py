"""The command: python -m lmsa_bench.data"""

import sys

from lmsa_bench.data.command import main
from lmsa_bench.errors import exit_status

if __name__ == "__main__":
    sys.exit(exit_status(main))
