"""What can be served: manifests, packages, references, and the port that keeps versions."""
