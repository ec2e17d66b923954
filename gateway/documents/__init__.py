"""Small revisioned documents: what people and loops decided. Pure values, and the port that keeps them."""
