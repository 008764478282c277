#!/usr/bin/env python3
"""The one front door: `up`, `test`, `worker`, `status`, `audit`, and everything Django brings."""

import sys

if sys.version_info < (3, 11):
    sys.exit("Farshore needs Python 3.11 or newer; %s is %d.%d." % ((sys.executable,) + tuple(sys.version_info[:2])))

from console.runtime.front_door import main  # noqa: E402 - an older Python must get the sentence above, not a traceback

if __name__ == "__main__":
    sys.exit(main(sys.argv))
