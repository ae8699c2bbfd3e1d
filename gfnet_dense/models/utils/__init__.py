"""Pure functions of tensors and state dicts, and questions about modules."""
