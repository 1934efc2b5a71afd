"""The text formats: one module each, text to faithful model and back."""
