"""Analysis of the errors of a model on the test data of its config."""
