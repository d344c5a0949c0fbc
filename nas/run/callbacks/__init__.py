"""Who is told of a search while it runs: one file a callback; see `nas.run.callbacks.callback`."""
