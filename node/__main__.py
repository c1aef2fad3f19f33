"""Run ``python -m node`` as the ``hepar`` command."""

from node.cli import main

if __name__ == "__main__":
    main()
