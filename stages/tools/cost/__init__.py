"""What work costs: plan before it starts, bench while it runs."""
