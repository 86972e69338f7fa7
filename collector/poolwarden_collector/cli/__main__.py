"""`python -m poolwarden_collector.cli` is `poolwarden`."""

from poolwarden_collector.cli.main import main

main()
