"""`python -m l2t`, for where the script `l2t` is not on the path."""

import sys

from l2t.command import main

if __name__ == "__main__":
    sys.exit(main())
