"""`python -m cert_models` is the command `cert`."""

from cert_models.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
