"""What is durable: the journal (SQLite, WAL, synchronous=FULL), telemetry, and their backup."""
