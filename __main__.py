"""`python -m ddfa_batch`: the same as `ddfa-batch`."""

from ddfa_batch.cli import main

if __name__ == "__main__":
    main()
