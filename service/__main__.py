"""`python -m service` is `ipt-bridge`."""

from service.cli import main

main()
