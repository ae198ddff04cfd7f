"""`codir plan`: what a run needs and takes on a machine, before any device is touched."""
