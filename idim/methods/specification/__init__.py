"""Methods that choose which of the network's own parameters move, and leave the others where they are."""
