"""`python -m diffusionmtl`, and `torchrun -m diffusionmtl`."""

import sys

from diffusionmtl.cli import main

if __name__ == "__main__":
    sys.exit(main())
