"""The durable store: what was seen of every run, the events made of it, and what each sink still gets.

`port` is what everyone uses: it runs plain functions, `await ledger.write(runs.commit_poll, commit, now_ms)`; `sqlite` is the
store behind it, known to the composition root alone.
Every function takes a SQLAlchemy connection first, in a transaction that the store began. Times are epoch
milliseconds. Writes that belong to a source or a sink check its lease first and raise `LeaseLost` without it.
A caller of a write must handle "committed, but the answer was lost": read the ledger again and decide again.
"""
