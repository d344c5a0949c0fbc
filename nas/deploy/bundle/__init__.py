"""Bundles: models of a front as the files, figures and loaders that somebody who deploys them is handed."""
