"""What does `python -m engine` do?  The same as the command `stateloop`."""

from engine.commands.main import main


if __name__ == "__main__":
    main(prog_name="python -m engine")
