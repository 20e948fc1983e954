"""The `diffedit` command, also as `python -m diffedit`."""

import sys


def main() -> None:
    """Run the command. `diffedit alive` runs without the imports that all others need: they take most of its time."""
    if sys.argv[1:2] == ["alive"]:
        from diffedit import alive

        arguments = alive.quick_arguments(sys.argv[2:])
        if arguments is not None:
            sys.exit(alive.check(*arguments))
    from diffedit.cli import app

    app(prog_name="diffedit")


if __name__ == "__main__":
    main()
