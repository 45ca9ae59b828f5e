"""The web page of a run, and the same answers for programs over HTTP. Needs the extra `demo`."""
