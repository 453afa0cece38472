"""What the methods that add parameters are built from: modules around modules of a network."""
