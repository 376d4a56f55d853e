"""What is wrong with a recording, at a glance: numbers, verdicts and their reasons."""
