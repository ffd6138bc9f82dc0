"""``python -m itermix``: the command line."""

from itermix.standalone.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
