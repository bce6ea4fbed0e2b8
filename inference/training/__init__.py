"""Training, validation, selection and promotion of models."""
