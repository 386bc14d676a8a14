"""The ledger in an SQLite file: the store, its file, the lock beside it and the threads that work on it."""
