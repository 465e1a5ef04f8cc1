"""`python -m gems` is the same as `gems`."""

from gems.apps.cli import main

if __name__ == "__main__":
    main()
