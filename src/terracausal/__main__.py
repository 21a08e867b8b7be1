"""`python -m terracausal` is the command line."""

from terracausal.cli import main

if __name__ == "__main__":
    main()
