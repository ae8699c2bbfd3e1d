"""Pictures of filters, predictions, data and training runs."""
