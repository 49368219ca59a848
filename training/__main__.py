"""`python -m training`, for torchrun."""

from training.cli.main import app

if __name__ == "__main__":
    app()
