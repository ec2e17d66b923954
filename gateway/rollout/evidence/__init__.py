"""What traffic says of one version beside another: counts, bets, a verdict. Knows no route, no plan, no store."""
