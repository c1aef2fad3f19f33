"""Parts of `benchmarks.soak`: what is sent, who sends it, what goes wrong, and who judges."""
