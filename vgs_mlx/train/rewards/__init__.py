"""From answers to advantages: grpo's rewards."""
