"""One task per source: poll, decide, commit; and the enrichment of runs that ended."""
