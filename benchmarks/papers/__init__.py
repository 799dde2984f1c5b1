"""The experiments of the two gradient network papers (Chaudhari, Pranav & Moura, 2023 and 2024)."""
