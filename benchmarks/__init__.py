"""Speed, as ratios between alternatives measured in the same run."""
