"""``python -m notelstm`` is the command line."""

import sys

from notelstm.cli import main

if __name__ == "__main__":
    sys.exit(main())
