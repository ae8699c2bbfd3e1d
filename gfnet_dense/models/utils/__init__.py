"""Pure functions of tensors and state dicts, and checks of modules."""
