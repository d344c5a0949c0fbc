"""The check of a bundle; see `nas.deploy.bundle.checking.check.check_bundle`."""
